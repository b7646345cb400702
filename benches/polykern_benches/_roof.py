"""The roof: the three ceilings that costs are counted in."""

from polykern_benches import ceilings
from polykern_kernels._cost import Roof


def measured(device: str, small: bool = False) -> Roof:
    """The roof of a device; `small` is quick and not to be trusted."""
    found = ceilings.survey(device, small, ("copy", "read", "popcount", "float64_gemm"))
    if {"copy", "popcount", "float64_gemm"} - found.rates.keys():
        raise SystemExit(f"no roof: {found.missing}")
    return Roof(
        max(found.rates["copy"], found.rates.get("read", 0.0)), found.rates["popcount"], found.rates["float64_gemm"]
    )
