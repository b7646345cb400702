"""Counting distinct codes by their fingerprints, and where on the grid each was seen.

Equal fingerprints are one code (`polykern_kernels.digest`: false with probability 2**-128 a pair). A mark is a set
of 16 flags that is united over all sightings; counts are added. Order: by first sighting. Exact integers.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from polykern_kernels._cost import Cost
from polykern_kernels._dispatch import Impl, choose, cpu_objection, describe

# --- contract -----------------------------------------------------------------------------------


def united(
    fingerprints: Tensor, marks: Tensor, counts: Tensor, *, backend: str | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct fingerprints in order of first sighting, their united marks and summed counts.

    fingerprints  int64 (n, 2)
    marks         int32 (n)      sets of flags
    counts        int64 (n)      how often each row was seen
    backend       "cpu" | "reference"
    returns       int64 (d, 2), int32 (d), int64 (d)
    """
    _check(fingerprints, marks, counts)
    run = choose("census.united", IMPLS, backend, fingerprints).run
    return run(fingerprints, marks, counts)  # type: ignore[no-any-return]


def cost(n: int, distinct: int) -> Cost:
    """Read every row once, write every distinct one once."""
    return Cost(bytes=28 * (n + distinct))


def _check(fingerprints: Tensor, marks: Tensor, counts: Tensor) -> None:
    if fingerprints.dtype != torch.int64 or fingerprints.ndim != 2 or fingerprints.shape[1] != 2:
        raise ValueError(f"census.united: fingerprints must be int64 (n, 2), got {describe(fingerprints)}")
    for name, x, dtype in (("marks", marks, torch.int32), ("counts", counts, torch.int64)):
        if x.dtype != dtype or x.shape != fingerprints.shape[:1]:
            raise ValueError(f"census.united: {name} must be {str(dtype)[6:]} (n), got {describe(x)}")


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


@functools.cache
def _jitted() -> Callable[..., int]:
    from polykern_kernels._numba import census as jitted

    return jitted.unite  # type: ignore[no-any-return]


def _cpu(fingerprints: Tensor, marks: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    out = torch.empty_like(fingerprints), torch.empty_like(marks), torch.empty_like(counts)
    given = (x.contiguous().numpy() for x in (fingerprints, marks, counts))
    d = _jitted()(*given, *(x.numpy() for x in out))
    return out[0][:d].clone(), out[1][:d].clone(), out[2][:d].clone()


IMPLS = (Impl("cpu", _cpu, lambda x: cpu_objection(x)), Impl("reference", _reference, lambda x: None))
