"""Work against the measured ceilings: which of them bounds it, and how close a time came."""

from collections.abc import Collection
from typing import Any

from polykern_benches import ceilings
from polykern_kernels._cost import Cost

Rates = dict[str, float]  # name of a ceiling -> how much a second

# What work is counted in -> the ceilings it is held against, of which the highest counts: bytes that are moved,
# 32-bit words whose differing bits are counted, pairs of bits that meet in the 1-bit tensor cores, and
# multiplications and additions of numbers.
UNITS = {
    "bytes": ("copy", "read"),
    "words": ("popcount", "carry_save"),
    "bit pairs": ("b1_mma", "b1_wgmma"),
    "int8": ("int8_gemm", "int8_mma", "int8_wgmma"),
    "float64": ("float64_gemm", "float64_mma"),
    "float32": ("float32_gemm", "float32"),
    "float16": ("fp16_gemm", "fp16_mma", "fp16_wgmma"),
    "bfloat16": ("bf16_gemm", "bf16_mma", "bf16_wgmma"),
}
COUNTED = {"b1": ("bit pairs", 32), "dot": ("int8", 64)}  # way -> what it counts bits in, and how many a word is
WORDS = ("words", 1)


def measured(device: str, small: bool, units: Collection[str]) -> Rates:
    """The rates of the ceilings of some units, measured now; `small` is quick and not to be trusted."""
    names = [name for unit in UNITS if unit in units for name in UNITS[unit]]
    return ceilings.survey(device, small, names).rates


def amounts(cost: Cost, way: str, precision: str) -> dict[str, int]:
    """Unit -> how much of it the work takes; what it takes nothing of is left out.

    way        our implementation, or for a peer the one of ours it stands beside
    precision  of the floating-point operations
    """
    unit, a_word = COUNTED.get(way, WORDS)
    found = {"bytes": cost.bytes, unit: a_word * cost.popcounts, precision: cost.flops}
    return {name: amount for name, amount in found.items() if amount}


def ceiling(unit: str, rates: Rates) -> float | None:
    """The highest measured rate of a unit, None where there is none."""
    return max((rates[name] for name in UNITS[unit] if name in rates), default=None)


def roofline(work: dict[str, int], seconds: float, rates: Rates) -> dict[str, Any] | None:
    """The unit that bounds the work, the rate reached, its ceiling and share; None without a measured ceiling."""
    of = {unit: rate for unit in work if (rate := ceiling(unit, rates)) is not None}
    if not of:
        return None
    bound = max(of, key=lambda unit: work[unit] / of[unit])
    rate = work[bound] / seconds
    return {"bound": bound, "rate": rate, "ceiling": of[bound], "share": rate / of[bound]}


def higher(a: Rates, b: Rates) -> Rates:
    """The higher of two measurements, ceiling by ceiling."""
    return {name: max(a.get(name, 0.0), b.get(name, 0.0)) for name in a | b}
