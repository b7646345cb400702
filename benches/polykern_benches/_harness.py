"""Timing, the roof of this machine, and the gate: no number without a correct answer."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from polykern_benches._roof import measured
from polykern_kernels._cost import Cost, Roof
from polykern_kernels._dispatch import Impl

SCHEMA = "polykern-bench/1"
FLUSH_BYTES = 256 << 20  # larger than any last-level cache we run on
REPETITIONS = 15
LEAST, ENOUGH = 5, 10.0  # runs at least; seconds after which these are enough
REMEASURED = 8  # times before a record above the roof is an error: others may have had the machine meanwhile


@dataclass(frozen=True, slots=True)
class Case:
    """One operation at one size.

    operation  "family.function"
    shape      sizes by name
    dtype      of the largest operand
    cost       the least work any implementation does
    ways       the operation's implementations
    inputs     the tensors that decide who can run
    run        runs it with the named backend
    holds      whether the result is right, by the reference on as much of it as that can do
    """

    operation: str
    shape: dict[str, int]
    dtype: str
    cost: Cost
    ways: Sequence[Impl]
    inputs: tuple[Tensor, ...]
    run: Callable[[str], Any]
    holds: Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and how large: the device's name, and whether sizes are toys."""

    device: str
    small: bool

    def pick(self, full: Any, toy: Any) -> Any:
        """The full size or the toy."""
        return toy if self.small else full


def same(a: Any, b: Any) -> bool:
    """Equal tensors, or sequences of them, on any device."""
    if isinstance(a, Tensor):
        return torch.equal(a.cpu(), b.cpu())
    return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))


def seconds(fn: Callable[[], object], setting: Setting) -> list[float]:
    """Sorted times of several runs, each on a cold cache; the first run is not counted."""
    size = setting.pick(FLUSH_BYTES, 1 << 20)
    scrub = torch.empty(size, dtype=torch.uint8, device=setting.device)
    fn()
    times: list[float] = []
    for repetition in range(setting.pick(REPETITIONS, 3)):
        if len(times) >= LEAST and sum(times) > ENOUGH:
            break
        scrub.fill_(repetition)
        times.append(_timed(fn, setting.device))
    return sorted(times)


def _timed(fn: Callable[[], object], device: str) -> float:
    if device == "cpu":
        start = time.perf_counter()
        fn()
        return time.perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    fn()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def time_case(case: Case, backend: str, setting: Setting) -> dict[str, Any]:
    """The record of one case on one backend, all but its share of the roof."""
    if not case.holds(case.run(backend)):
        raise SystemExit(f"{case.operation}/{backend}: wrong answer, so no timing")
    times = seconds(lambda: case.run(backend), setting)
    return {
        "operation": case.operation,
        "backend": backend,
        "device": setting.device,
        "shape": case.shape,
        "dtype": case.dtype,
        "median_s": statistics.median(times),
        "p90_s": times[round(0.9 * (len(times) - 1))],
        "repetitions": len(times),
        **asdict(case.cost),
    }


def weigh(records: list[dict[str, Any]], roof: Roof, setting: Setting) -> Roof:
    """Gives every record its share of the roof; returns the roof, measured again where a record exceeded it."""
    for record in records:
        cost = Cost(record["bytes"], record["popcounts"], record["flops"])
        for _ in range(REMEASURED):
            if cost.seconds_at(roof) > record["median_s"]:
                roof = better(roof, measured(setting.device, setting.small))
        if cost.seconds_at(roof) > record["median_s"]:
            share = cost.seconds_at(roof) / record["median_s"]
            name = f"{record['operation']}/{record['backend']}"
            raise SystemExit(f"{name}: {share:.0%} of the roof: the roof or the cost is wrong")
    for record in records:
        cost = Cost(record["bytes"], record["popcounts"], record["flops"])
        record["share"] = cost.seconds_at(roof) / record["median_s"]
        record["bound"] = bound(cost, roof)
    return roof


def better(a: Roof, b: Roof) -> Roof:
    """The higher of two measurements, number by number."""
    return replace(a, **{key: max(value, asdict(b)[key]) for key, value in asdict(a).items()})


def bound(cost: Cost, roof: Roof) -> str:
    """What sets the speed of light of this work."""
    limits = {
        "bytes": cost.bytes / roof.bytes_per_s,
        "popcounts": cost.popcounts / roof.popcounts_per_s,
        "flops": cost.flops / roof.flops_per_s,
    }
    return max(limits, key=lambda name: limits[name])


def line(record: dict[str, Any]) -> str:
    """operation[shape]/backend | median | p90 | rates | share of the roof."""
    shape = "x".join(str(size) for size in record["shape"].values())
    name = f"{record['operation']}[{shape}] {record['dtype']} {record['backend']}"
    median = record["median_s"]
    return (
        f"{name:<56}{median * 1e3:10.3f} ms{record['p90_s'] * 1e3:10.3f} p90"
        f"{record['bytes'] / median / 1e9:9.2f} GB/s{record['popcounts'] / median / 1e9:9.2f} Gpop/s"
        f"{record['share']:7.1%} of {record['bound']}"
    )


def run(cases: Callable[[Setting], list[Case]], setting: Setting) -> list[dict[str, Any]]:
    """The records of all cases on every backend that is meant for this device."""
    records = []
    for case in cases(setting):
        for way in case.ways:
            interpreted = way.name == "triton" and setting.device == "cpu"
            if way.name != "reference" and not interpreted and way.objection(*case.inputs) is None:
                records.append(time_case(case, way.name, setting))
    return records


def main(
    benches: dict[str, Callable[[Setting], list[Case]]], argv: Sequence[str] | None, default: str = ""
) -> None:
    """The command line of one bench or of all: [--json FILE] [--small] [--device cpu|cuda]."""
    parser = argparse.ArgumentParser(description="Times kernels against the roof of this machine.")
    parser.add_argument("--json", default=default, help="write the records to this file")
    parser.add_argument("--small", action="store_true", help="toy sizes: does it run")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args(argv)
    setting = Setting(given.device, given.small)
    torch.set_num_threads(numba.get_num_threads())
    roof = measured(setting.device, setting.small)
    records: list[dict[str, Any]] = []
    for cases in benches.values():
        records += run(cases, setting)
        # a roof is a best case, and one moment may not show it
        roof = better(roof, measured(setting.device, setting.small))
    roof = weigh(records, roof, setting)
    print("roof: " + ", ".join(f"{value / 1e9:.1f} G{key}" for key, value in asdict(roof).items()))
    print(*map(line, records), sep="\n")
    if given.json:
        path = Path(given.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document(list(benches), setting, roof, records), indent=1) + "\n")


def document(benches: list[str], setting: Setting, roof: Roof, records: list[dict[str, Any]]) -> dict[str, Any]:
    """The file: what ran, where, with which versions, against which roof."""
    return {
        "schema": SCHEMA,
        "benches": benches,
        "small": setting.small,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **describe_machine(setting.device),
        "roof": asdict(roof),
        "results": records,
    }


def describe_machine(device: str = "cpu") -> dict[str, Any]:
    """What a measurement is worth nothing without: machine, versions, commit."""
    names = ("polykern", "torch", "numpy", "numba", "triton")
    return {"machine": machine(device), "versions": {name: _version(name) for name in names}, "commit": commit()}


def machine(device: str) -> dict[str, Any]:
    """The processor, its threads and clock, and the GPU when it is the one measured."""
    about = {key.strip(): value.strip() for key, _, value in (row.partition(":") for row in _cpuinfo())}
    found: dict[str, Any] = {
        "cpu": about.get("model name", platform.processor()),
        "cpu_mhz": float(about["cpu MHz"]) if "cpu MHz" in about else None,
        "vector": sorted({"avx2", "avx512f", "avx512_vpopcntdq"} & set(about.get("flags", "").split())),
        "cores": os.cpu_count(),
        "threads": numba.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found["gpu"] = properties.name
        found["gpu_processors"] = properties.multi_processor_count
    return found


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().split("\n\n")[0].splitlines() if path.exists() else []


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def commit() -> str | None:
    """The commit of the working tree, "+" behind it when the sources differ from it."""
    here = Path(__file__).parents[2]
    git = ["git", "-C", str(here)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "kernels", "polykern", "benches/*.py"], capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed.stdout else "")


def codes(*shape: int, device: str, seed: int = 0) -> Tensor:
    """Random packed codes."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(-(2**31), 2**31, shape, dtype=np.int32)).to(device)
