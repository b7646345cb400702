"""The nearest code in another component: the search in a round of Boruvka's algorithm, exact and exhaustive.

    weight(i, j) = max(core(i), core(j), d(i, j))        mutual reachability
    answer(i) = least (weight(i, j), j) over j with component(j) != component(i)

d is the Hamming distance, an int32 count, or the Jaccard distance, differing / union as correctly rounded float64
(exact in its order below 2**26 bits). For a row i the order by (weight, j) is that by (weight, smaller end, larger
end). Neither the number of threads nor the size of a block changes an answer. Nothing of size n x n is ever held.
Boruvka 1926; Campello, Moulavi, Sander 2013, "Density-based clustering based on hierarchical density estimates".
"""

import numpy as np
import torch
from torch import Tensor

from polykern_kernels import _check, _metric
from polykern_kernels._cost import Cost
from polykern_kernels._dispatch import backends, choose
from polykern_kernels._metric import METRICS, Numbers, Progress, silent

# --- contract -----------------------------------------------------------------------------------


def nearest(
    words: Tensor,
    rows: Tensor,
    cores: Tensor,
    components: Tensor,
    *,
    bound: Tensor | None = None,
    metric: str = "hamming",
    backend: str | None = None,
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor]:
    """The least edge of mutual reachability from each of some rows to another component.

    words       int32 (n, words)   packed codes
    rows        int64 (r)          rows that ask, in any order, each once
    cores       (n)                core distances: int32 for Hamming, float64 for Jaccard
    components  int64 (n)          names of the components
    bound       None | cores' dtype (r)   only weights below it are of interest; it may save work
    metric      "hamming" | "jaccard"
    backend     "b1" | "dot" | "triton" | "cpu" | "reference"; None takes the first that can run
    progress    called now and then with the work done and all of it; the last time they are equal
    returns     weights cores' dtype (r)
                indices int64 (r)   row of the least (weight, row) in another component. Where there is none, or
                                    none below the bound, -1 beside the bound; without one, the largest number

    Exact, and the same on every backend. Raises ValueError when the arguments do not fit.
    """
    op = "foreign.nearest"
    _metric.check(op, "words", words, metric)
    n = len(words)
    _check.tensor(op, "rows", rows, _check.INT64, "rows")
    _check.sized(op, "cores", cores, METRICS[metric], n)
    _check.sized(op, "components", components, torch.int64, n)
    if bound is None:
        bound = torch.full((len(rows),), _metric.never(metric), dtype=cores.dtype, device=words.device)
    _check.sized(op, "bound", bound, cores.dtype, len(rows))
    _check.same_device(op, words=words, rows=rows, cores=cores, components=components, bound=bound)
    _check.within(op, "rows", rows, n, f"rows of words (0 <= row < {n})")
    chosen = choose(op, IMPLS["nearest"], backend, words, metric=metric)
    return chosen.run(words, rows, cores, components, bound, metric, progress or silent)  # type: ignore[no-any-return]


def cost(n: int, rows: int, words: int, *, distance_bytes: int = 4) -> Cost:
    """`nearest` with components of one row each: read all once, write the answers, count each pair once."""
    pairs = rows * (n - rows) + rows * (rows - 1) // 2
    read = n * (4 * words + distance_bytes + 8) + rows * (8 + distance_bytes)
    return Cost(bytes=read + rows * (8 + distance_bytes), popcounts=pairs * words)


# --- reference: all distances of a row ---------------------------------------------------------------


def _reference(
    words: Tensor, rows: Tensor, cores: Tensor, components: Tensor, bound: Tensor, metric: str, progress: Progress
) -> tuple[Tensor, Tensor]:
    weights, indices = bound.clone(), torch.full_like(rows, -1)
    for at, i in enumerate(rows.tolist()):
        distances = _metric.distances(words[i], words, metric)
        weight = torch.maximum(distances, torch.maximum(cores, cores[i]))
        others = (components != components[i]).nonzero()[:, 0]
        if len(others):
            place = weight[others].sort(stable=True).indices[0]
            j = others[place]
            if weight[j] < bound[at]:
                weights[at], indices[at] = weight[j], j
        progress(at + 1, len(rows))
    return weights, indices


# --- cpu: numba, `_numba.foreign` ----------------------------------------------------------------------

_CHUNKS = 32  # calls into compiled code, so that there is progress between them


def _cpu(
    words: Tensor, rows: Tensor, cores: Tensor, components: Tensor, bound: Tensor, metric: str, progress: Progress
) -> tuple[Tensor, Tensor]:
    from polykern_kernels._numba import foreign as loops

    n, asking = len(words), len(rows)
    if not (asking and n):
        return bound.clone(), torch.full_like(rows, -1)
    order, place = _ordered(rows.numpy(), cores.numpy(), components.numpy())
    laid = np.ascontiguousarray(words.numpy()[order])
    weights = np.empty(asking, bound.numpy().dtype)
    weights[place] = bound.numpy()
    points = np.full(asking, -1)
    sizes = _metric.ones(laid, metric)
    given = laid, sizes, cores.numpy()[order], components.numpy()[order], order, weights, points
    step = loops.step(asking)
    blocks, others = -(-asking // step), n - asking
    done, total = 0, blocks * asking + 2 * blocks * others  # a turn is half a block by all that ask
    for turn in range(blocks):
        loops.among(*given, _turn(turn, blocks), step, asking)
        done += asking
        progress(done, total)
    chunk = -(-blocks // _CHUNKS)
    for block in range(0, blocks, chunk) if others else ():
        end = min(blocks, block + chunk)
        loops.against(*given, block * step, min(asking, end * step), step, asking)
        done += 2 * (end - block) * others
        progress(done, total)
    return torch.from_numpy(weights[place]), torch.from_numpy(points[place])


def _ordered(rows: Numbers, cores: Numbers, components: Numbers) -> tuple[Numbers, Numbers]:
    """All rows, those that ask first, both parts by (component, core); and where each that asks is."""
    silent = np.ones(len(cores), bool)
    silent[rows] = False
    order = np.lexsort((cores, components, silent))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return order, place[rows]


def _turn(turn: int, blocks: int) -> Numbers:
    """Pairs x <= y of blocks, x + y = turn modulo blocks: no block is in two, and every pair has one turn."""
    x = np.arange(blocks)
    y = (turn - x) % blocks
    return np.stack([x[x <= y], y[x <= y]], 1)


IMPLS = {"nearest": backends("foreign", "nearest", cpu=_cpu, reference=_reference, b1=True, dot=True)}
