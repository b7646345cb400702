"""A case of a bench file as the row of a target: its gate first, then the seconds of its best run."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from polykern_benches import _memory
from polykern_benches._harness import Case, Measured, Setting, Trial
from polykern_benches._work import UNITS, amounts

RUNS = 5


class Wrong(RuntimeError):
    """The result is not right, so there is no time."""


@dataclass(frozen=True, slots=True)
class Job:
    """What of a case a target looks at.

    case     makes the case
    way      the one of ours that runs; "" is the first that can
    kernel   part of a name: the device seconds of such kernels count alone
    stage    of a run that tells its stages, the one that counts alone
    charged  the work that is counted, of the least that any implementation does
    """

    case: Callable[[Setting], Case]
    way: str = ""
    kernel: str = ""
    stage: str = ""
    charged: float = 1.0


@dataclass(slots=True)
class Found:
    """Seconds of the best run, the work in the unit of the row's ceiling, and what else is worth knowing."""

    seconds: float
    work: float = 0.0
    told: dict[str, Any] = field(default_factory=dict)


def done(job: Job, setting: Setting, ceiling: str = "") -> Found:
    """Runs the case of a job.

    job      what is run
    setting  where, and how large
    ceiling  of `Ceilings`, in whose unit the work is given; "" gives none

    Raises Wrong where the result is not right, LookupError where the way cannot run.
    """
    case = job.case(setting)
    runs = setting.pick(min(RUNS, case.samples), 1)
    trial = case.setup()
    try:
        way = _way(case, trial, job.way)
        first = trial.run(way)
        if not trial.holds(first.result if isinstance(first, Measured) else first):
            raise Wrong("wrong answer, so no time")
        found = _told(first, trial, way, runs, job.stage) if isinstance(first, Measured) else None
        del first  # the memory of a result
        found = found or _timed(lambda: trial.run(way), setting.device, runs, job.kernel)
        if ceiling and case.cost is not None:
            unit = next(unit for unit, names in UNITS.items() if ceiling in names)
            found.work = job.charged * amounts(case.cost, way, case.precision).get(unit, 0)
        return found
    finally:
        trial.close()
        _memory.release(setting.device)


def _way(case: Case, trial: Trial, wanted: str) -> str:
    """The name of the way that runs."""
    reasons = {way.name: way.objection(*trial.inputs) for way in case.ways if wanted in ("", way.name)}
    can = next((name for name, reason in reasons.items() if reason is None), None)
    if can is None:
        raise LookupError(f"{wanted or case.operation} cannot run: {next(iter(reasons.values()), 'no such way')}")
    return can


def _told(first: Measured, trial: Trial, way: str, number: int, stage: str) -> Found:
    """The best of runs that measure themselves; each of them warmed up."""
    runs = [first, *(trial.run(way) for _ in range(number - 1))]
    seconds = [run.told["stages_s"][stage] if stage else run.seconds for run in runs]
    best = min(range(len(runs)), key=seconds.__getitem__)
    return Found(seconds[best], told={**runs[best].told, "whole_s": runs[best].seconds})


def _timed(run: Callable[[], Any], device: str, runs: int, kernel: str) -> Found:
    """The best of some runs, or of the kernels alone in one more."""
    times = []
    for _ in range(runs):
        _wait(device)
        start = time.perf_counter()
        run()
        _wait(device)
        times.append(time.perf_counter() - start)
    alone = _kernel_seconds(run, kernel) if kernel and device == "cuda" else None
    if not kernel:
        return Found(min(times))
    return Found(min(times) if alone is None else alone, told={"whole_s": min(times), "kernel": alone is not None})


def _kernel_seconds(run: Callable[[], Any], name: str) -> float | None:
    """Device seconds of the kernels whose name holds `name` in one run; None where the profiler sees none."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        run()
        torch.cuda.synchronize()
    total = sum(event.device_time_total for event in seen.key_averages() if name in event.key)
    return total / 1e6 if total else None


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
