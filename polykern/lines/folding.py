"""Space folding: how far the codes along a path turn back towards the first one."""

from polykern.codes import Codes
from polykern.errors import UsageError


def space_folding(path: Codes) -> float:
    """1 - max over i of d_H(c_0, c_i) / sum over i of d_H(c_i, c_i+1), for the codes c_0, c_1, ... of a path.

    path     the codes in order, two or more; choices of max-pools count where they are kept
    returns  0 where every step leads away from the first code, which is always so within one layer of a straight
             path; towards 1 the more the path turns back; 0 where nothing changes

    Exact. `Crossings.folding` is that of all codes on a segment. Errors: UsageError for fewer than two codes.
    Lewandowski et al. 2025, "On Space Folds of ReLU Neural Networks" (arXiv:2502.09954).
    """
    if len(path) < 2:
        raise UsageError(f"a path has two codes at least, got {len(path)}")
    away = int(path[[0] * len(path)].aligned(path).max())
    steps = int(path[:-1].aligned(path[1:]).sum())
    return 1 - away / steps if steps else 0.0
