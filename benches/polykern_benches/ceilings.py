"""The ceilings: what each unit of this machine gives at best, measured here and now.

    python -m polykern_benches.ceilings [--device cpu|cuda] [--json FILE] [--small]

A rate is of the best of several runs, each of some milliseconds, and stands only if what was computed is right. The
shares that benches tell are shares of these, never of a data sheet.
"""

import argparse
import json
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

Rate = float | None


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Rates a second; None where the device has no such unit, nobody asked, or the result was wrong.

    copy        bytes, those read and those written
    read        bytes
    popcount    32-bit words whose ones are counted and added up
    differing   32-bit words that are compared: exclusive or, popcount, addition; on a GPU the same as popcount
    logic       32-bit logical operations on three words
    carry_save  32-bit words that are compared and counted behind a carry-save adder
    b1_mma      pairs of bits, by mma.sync and.popc of a warp
    b1_wgmma    pairs of bits, by wgmma and.popc of four warps (sm_90a)
    float32     multiplications and additions, both counted, by fused multiply-add outside the tensor units
    int8_mma, fp16_mma, bf16_mma, float64_mma                  the same by mma.sync
    int8_wgmma, fp16_wgmma, bf16_wgmma                         the same by wgmma (sm_90a)
    int8_gemm, fp16_gemm, bf16_gemm, float32_gemm, float64_gemm   the same by torch's product; never TF32
    """

    copy: Rate = None
    read: Rate = None
    popcount: Rate = None
    differing: Rate = None
    logic: Rate = None
    carry_save: Rate = None
    b1_mma: Rate = None
    b1_wgmma: Rate = None
    float32: Rate = None
    int8_mma: Rate = None
    fp16_mma: Rate = None
    bf16_mma: Rate = None
    float64_mma: Rate = None
    int8_wgmma: Rate = None
    fp16_wgmma: Rate = None
    bf16_wgmma: Rate = None
    int8_gemm: Rate = None
    fp16_gemm: Rate = None
    bf16_gemm: Rate = None
    float32_gemm: Rate = None
    float64_gemm: Rate = None


NAMES = tuple(f.name for f in fields(Ceilings))
BYTES, PAIRS = ("copy", "read"), ("b1_mma", "b1_wgmma")
WORDS = ("popcount", "differing", "logic", "carry_save")


@dataclass(slots=True)
class Survey:
    """The ceilings of one device, and what stands behind them.

    rates    by the names of `Ceilings`, as far as they were measured
    missing  why a rate is not there
    clocks   MHz of the processors while a unit was at work, where that can be read
    """

    rates: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    clocks: dict[str, int] = field(default_factory=dict)

    @property
    def ceilings(self) -> Ceilings:
        """The rates."""
        return Ceilings(**self.rates)


def measured(device: str, small: bool = False, only: Collection[str] | None = None) -> Ceilings:
    """The ceilings of a device.

    device   "cpu" | "cuda"
    small    quick, and not to be trusted
    only     names of `Ceilings`; None measures all that the device has
    returns  rates a second

    Raises ValueError when a name is not one of `Ceilings`.
    """
    return survey(device, small, only).ceilings


def survey(device: str, small: bool = False, only: Collection[str] | None = None) -> Survey:
    """The ceilings of a device, with what is missing and the clocks; arguments and errors as `measured`."""
    wanted = NAMES if only is None else tuple(name for name in NAMES if name in only)
    unknown = sorted(set(only or ()) - set(NAMES))
    if unknown:
        raise ValueError(f"ceilings: no unit {', '.join(unknown)}; there are {', '.join(NAMES)}")
    there = import_module(f"polykern_benches._ceilings_{device}")
    found = Survey()
    for name in wanted:
        try:
            rate, clock = there.measure(name, small)
        except (LookupError, RuntimeError, OSError) as problem:  # no such unit, a wrong result, no compiler
            found.missing[name] = str(problem)
            continue
        found.rates[name] = rate
        if clock is not None:
            found.clocks[name] = clock
    return found


def unit(name: str) -> str:
    """What a rate counts."""
    return "B" if name in BYTES else "word" if name in WORDS else "bit pair" if name in PAIRS else "op"


def table(found: Survey, processors: int | None = None) -> list[str]:
    """Lines to read; with the number of processors also what each does in a cycle."""
    lines = []
    for name in NAMES:
        if name in found.rates:
            rate, clock = found.rates[name], found.clocks.get(name)
            cycle = (
                f"{rate / (clock * 1e6 * processors):12.1f} a cycle at {clock} MHz" if clock and processors else ""
            )
            lines.append(f"  {name:14}{rate / 1e12:12.4f} T{unit(name)}/s{cycle}")
        elif name in found.missing:
            lines.append(f"  {name:14}{'-':>12} {found.missing[name].splitlines()[0]}")
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table; with --json also write it."""
    parser = argparse.ArgumentParser(description="What each unit of this machine gives at best.")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--json", type=Path, help="write the rates here")
    parser.add_argument("--small", action="store_true", help="quick, and not to be trusted")
    given = parser.parse_args(argv)
    start = time.perf_counter()
    found = survey(given.device, given.small)
    about: dict[str, Any] = {"device": given.device, "small": given.small, "torch": torch.__version__}
    processors = None
    if given.device == "cuda":
        properties = torch.cuda.get_device_properties("cuda")
        processors = properties.multi_processor_count
        about |= {"name": properties.name, "processors": processors, "memory": properties.total_memory}
    print(*table(found, processors), sep="\n")
    print(f"  in {time.perf_counter() - start:.1f} s")
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        report = {"schema": "polykern-ceilings/1", **about, **asdict(found)}
        given.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
