"""Counting distinct codes by their fingerprints, and where on the grid each was seen.

Equal fingerprints are one code (`polykern_kernels.digest`: false with probability 2**-128 a pair). A mark is a set
of 16 flags that is united over all sightings; counts are added. Order: by first sighting. Exact integers.
"""

import torch
from torch import Tensor

from polykern_kernels import _check
from polykern_kernels._cost import Cost
from polykern_kernels._dispatch import Impl, choose, cpu_objection

# --- contract -----------------------------------------------------------------------------------


def united(
    fingerprints: Tensor, marks: Tensor, counts: Tensor, *, backend: str | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct fingerprints in order of first sighting, their united marks and summed counts.

    fingerprints  int64 (n, 2)
    marks         int32 (n)      sets of flags
    counts        int64 (n)      how often each row was seen
    backend       "cpu" | "reference"; None takes the first that can run
    returns       int64 (d, 2), int32 (d), int64 (d)
    """
    op = "census.united"
    _check.tensor(op, "fingerprints", fingerprints, _check.INT64, "n", "2")
    if fingerprints.shape[1] != 2:
        _check.fail(op, "fingerprints", "int64 (n, 2)", fingerprints)
    _check.sized(op, "marks", marks, torch.int32, len(fingerprints))
    _check.sized(op, "counts", counts, torch.int64, len(fingerprints))
    _check.same_device(op, fingerprints=fingerprints, marks=marks, counts=counts)
    return choose(op, IMPLS, backend, fingerprints).run(fingerprints, marks, counts)  # type: ignore[no-any-return]


def cost(n: int, distinct: int) -> Cost:
    """Read every row once, write every distinct one once."""
    return Cost(bytes=28 * (n + distinct))


# --- reference ----------------------------------------------------------------------------------


def _reference(fingerprints: Tensor, marks: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    seen: dict[tuple[int, int], list[int]] = {}
    for (a, b), mark, count in zip(fingerprints.tolist(), marks.tolist(), counts.tolist(), strict=True):
        entry = seen.setdefault((a, b), [0, 0])
        entry[0] |= mark
        entry[1] += count
    device = fingerprints.device
    return (
        torch.tensor(list(seen), dtype=torch.int64, device=device).reshape(-1, 2),
        torch.tensor([m for m, _ in seen.values()], dtype=torch.int32, device=device),
        torch.tensor([c for _, c in seen.values()], dtype=torch.int64, device=device),
    )


# --- cpu: an open-addressing table; fingerprints are their own hash ------------------------------


def _cpu(fingerprints: Tensor, marks: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    from polykern_kernels._numba import census as loops

    out = torch.empty_like(fingerprints), torch.empty_like(marks), torch.empty_like(counts)
    given = (x.contiguous().numpy() for x in (fingerprints, marks, counts))
    d = loops.unite(*given, *(x.numpy() for x in out))
    return out[0][:d].clone(), out[1][:d].clone(), out[2][:d].clone()


IMPLS = (Impl("cpu", _cpu, cpu_objection), Impl("reference", _reference, lambda x: None))
