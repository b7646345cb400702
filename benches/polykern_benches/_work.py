"""Work against the measured ceilings: which of them bounds it, and how close a time came."""

from typing import Any

from polykern_benches import _roof
from polykern_kernels._cost import Cost

Ceilings = dict[str, float]  # name -> rate a second

# What work is counted in -> the ceilings it is held against, of which the highest counts: bytes that are moved,
# 32-bit words whose bits are counted, pairs of bits that meet in the 1-bit tensor cores, multiplications and
# additions of a precision.
UNITS = {
    "bytes": ("copy", "read"),
    "words": ("popcount",),
    "bit pairs": ("b1_mma",),
    "float64": ("float64_gemm", "float64_mma"),
    "float32": ("float32_gemm", "float32"),
}
COUNTED = {"b1": ("bit pairs", 32)}  # way -> the unit it counts bits in, and how many a word is; others count words
WORDS = ("words", 1)


def ceilings(device: str, small: bool) -> Ceilings:
    """The rates of this machine, measured now; `small` is quick and not to be trusted."""
    roof = _roof.measured(device, small)
    return {"copy": roof.bytes_per_s, "popcount": roof.popcounts_per_s, "float64_gemm": roof.flops_per_s}


def amounts(cost: Cost, way: str, precision: str) -> dict[str, int]:
    """Unit -> how much of it the work takes; what it takes nothing of is left out.

    way        our implementation, or for a peer the one of ours it stands beside
    precision  of the floating-point operations
    """
    unit, a_word = COUNTED.get(way, WORDS)
    found = {"bytes": cost.bytes, unit: a_word * cost.popcounts, precision: cost.flops}
    return {name: amount for name, amount in found.items() if amount}


def ceiling(unit: str, measured: Ceilings) -> float | None:
    """The highest measured rate of a unit, None where there is none."""
    return max((measured[name] for name in UNITS[unit] if name in measured), default=None)


def roofline(work: dict[str, int], seconds: float, measured: Ceilings) -> dict[str, Any] | None:
    """The unit that bounds the work, the rate reached, its ceiling and share; None without a measured ceiling."""
    of = {unit: rate for unit in work if (rate := ceiling(unit, measured)) is not None}
    if not of:
        return None
    bound = max(of, key=lambda unit: work[unit] / of[unit])
    rate = work[bound] / seconds
    return {"bound": bound, "rate": rate, "ceiling": of[bound], "share": rate / of[bound]}


def higher(a: Ceilings, b: Ceilings) -> Ceilings:
    """The higher of two measurements, ceiling by ceiling."""
    return {name: max(a.get(name, 0.0), b.get(name, 0.0)) for name in a | b}
