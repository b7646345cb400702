"""A run in a process of its own, so that peaks of memory do not mix.

The child gets its job from a bench file, does it once on a few rows, so that everything is compiled and imported,
notes its memory and starts its clocks. CPU seconds are of the whole process, on as many cores as it is pinned to.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polykern_benches._harness import Measured
from polykern_benches._machine import threads
from polykern_benches._memory import Peak

Found = dict[str, NDArray[Any]]
COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS")
RESULT = "result.npz"


@dataclass(frozen=True, slots=True)
class Job:
    """What a child does: arrays that the gate looks at, and what else is told.

    warm  on a few rows; its arrays come back as warm_NAME
    run   all of it; this is measured
    """

    warm: Callable[[], tuple[Found, dict[str, Any]]]
    run: Callable[[], tuple[Found, dict[str, Any]]]


def apart(module: str, way: str, folder: Path, device: str, number: int) -> Measured:
    """What a child measured of `job(way, folder, device)` of a bench file.

    module  name of the bench file, without its package
    folder  where its data are
    number  of threads, and of cores it is pinned to
    """
    environment = {
        **os.environ,
        **dict.fromkeys(COUNTS, str(number)),
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    command = [sys.executable, "-m", "polykern_benches._child", module, way, str(folder), device, str(number)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise RuntimeError(f"the process of {way} failed: {said[-1]}")
    told = json.loads(done.stdout)
    with np.load(folder / RESULT, allow_pickle=False) as found:
        arrays = {name: found[name] for name in found.files}
    return Measured(arrays, told.pop("wall_s"), told.pop("added"), told)


def main() -> None:
    """The child."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs=5, metavar="MODULE WAY FOLDER DEVICE THREADS")
    module, way, name, device, number = parser.parse_args().words
    folder = Path(name)
    threads(int(number))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(number)])
    job: Job = import_module(f"polykern_benches.{module}").job(way, folder, device)
    warm, _ = job.warm()
    peak = Peak(device)
    wall, cpu = time.perf_counter(), time.process_time()
    arrays, told = job.run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    added = peak.added()
    np.savez(folder / RESULT, **arrays, **{f"warm_{name}": x for name, x in warm.items()})  # type: ignore[arg-type]
    json.dump({"wall_s": wall, "added": added, "cpu_s": cpu, **told}, sys.stdout)


if __name__ == "__main__":
    main()
