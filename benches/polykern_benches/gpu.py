"""`make gpu`: ceilings, tests, targets and benches of a CUDA device, ten minutes at most, one page at the end.

Every step is a process of its own with a limit; what it wrote stays when a later one fails or is out of time. What
had no turn because a case before it lost the device (an illegal access ends all that its process can do there) runs
again in a new process, without that case. Tests for which there was no time get what all steps leave over. Files go
to $OUT where that is set, else to benches/results.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

LOST = "the device is lost"  # how `polykern_benches._memory.LOST` begins
ALL = 570.0  # seconds of all steps
MARK = "mark.gpu"  # in the file of a test, or of a fixture, that needs a device
LEAST, RUNS = 5.0, 5  # seconds that are worth a process; processes of a step
ROOT = Path(__file__).parents[2]
WHEELS = ROOT / ".wheels"
NEEDED = (
    "torch", "triton", "numpy", "numba", "scipy", "sklearn", "matplotlib", "PIL", "jinja2", "safetensors", "fsspec",
    "xxhash", "typer", "rich", "pytest", "hypothesis", "jaxtyping", "beartype",
)  # fmt: skip


def _nothing(before: int) -> list[str]:
    return []


@dataclass(frozen=True, slots=True)
class Step:
    """One process.

    name       of the step
    seconds    at most
    arguments  of Python
    left       arguments for what had no turn, the device being lost, after so many runs; none where all had
    noted      whether the same arguments do again only what had no turn
    """

    name: str
    seconds: float
    arguments: list[str]
    left: Callable[[int], list[str]] = _nothing
    noted: bool = False


BENCHES = {  # file -> cases; a file is written at the end of its step
    "codes": ("hamming.*", "neighbours.*"),
    "streams": ("pack.*", "covariance.*", "cooccurrence.*", "digest.*", "profiles.*"),
    "maps": (
        "maps.exact*",
        "heatmap.digits resolution=512*",
        "heatmap.digits resolution=1024*",
        "grid.*",
        "program.*",
        "linear.*",
    ),
    "floats": ("euclid.*",),
}


def steps(out: Path) -> list[Step]:
    """What is run, in order; their limits together are `ALL`."""
    out.mkdir(parents=True, exist_ok=True)
    noted = out / "gpu-tests.txt"
    noted.unlink(missing_ok=True)
    os.environ["POLYKERN_NOTED"] = str(noted)
    plugins = ["-p", "no:cacheprovider", "-p", "polykern_benches._noted"]
    tests = ["-m", "pytest", "-q", "-m", "gpu", *plugins, *tests_of_a_device()]
    ceilings = ["-m", "polykern_benches.ceilings", "--device", "cuda", "--json", f"{out}/ceilings-cuda.json"]
    limits = zip(BENCHES.items(), (110, 50, 40, 20), strict=True)
    return [
        Step("ceilings", 60, ceilings),
        Step("tests", 140, tests, partial(_tests_left, out, tests), noted=True),
        Step("targets", 150, _targets(out, 0, ()), partial(_targets_left, out)),
        *(Step(f"benches {n}", limit, _cases(out, n, 0, globs), partial(_cases_left, out, n))
          for (n, globs), limit in limits),
    ]  # fmt: skip


def tests_of_a_device() -> list[str]:
    """The files of tests that are marked `gpu`; the others may need packages that are not where the device is."""
    marked = [p for p in sorted(ROOT.glob("tests/**/test_*.py")) if MARK in p.read_text(encoding="utf-8")]
    kernels = sorted(ROOT.glob("tests/kernels/test_*.py"))  # whose fixture of ways has the mark
    return [str(p.relative_to(ROOT)) for p in sorted({*marked, *kernels})]


def _file(out: Path, name: str, run: int) -> Path:
    """Where a run writes; those after the first have numbers."""
    return out / f"{name}-cuda{f'-{run + 1}' if run else ''}.json"


def _cases(out: Path, name: str, run: int, globs: Sequence[str]) -> list[str]:
    filters = [word for glob in globs for word in ("--filter", glob)]
    path = str(_file(out, f"bench-{name}", run))
    return ["-m", "polykern_benches", "--device", "cuda", "--out", path, *filters]


def _cases_left(out: Path, name: str, before: int) -> list[str]:
    """The cases of which every record says that the device was lost."""
    ways: dict[str, list[str]] = {}
    for record in _read(_file(out, f"bench-{name}", before - 1)).get("results", ()):
        sizes = "".join(f" {key}={value}" for key, value in record["params"].items())
        ways.setdefault(f"{record['case']}{sizes} {record['dtype']}", []).append(record.get("failed", ""))
    left = [case for case, reasons in ways.items() if all(reason.startswith(LOST) for reason in reasons)]
    return _cases(out, name, before, left) if left else []


def _targets(out: Path, run: int, rows: Sequence[str]) -> list[str]:
    only = [word for row in rows for word in ("--only", row)]
    path = str(_file(out, "targets", run))
    return ["-m", "polykern_benches.targets", "--budget", "110", "--json", path, *only]


def _targets_left(out: Path, before: int) -> list[str]:
    rows = _read(_file(out, "targets", before - 1)).get("rows", ())
    left = [row["name"] for row in rows if row["why"].startswith(LOST)]
    return _targets(out, before, left) if left else []


def _tests_left(out: Path, tests: list[str], before: int) -> list[str]:
    """The same again where the run was ended behind a test: those that had their turn are noted."""
    return tests if LOST in (out / _log("tests", before - 1)).read_text(errors="replace") else []


def _read(path: Path) -> dict[str, Any]:
    """A file that a process may not have come to write."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def run(wanted: Sequence[Step], out: Path, seconds: float = ALL) -> list[dict[str, Any]]:
    """Runs steps until the time is over; after each, OUT/gpu.json says what became of all.

    wanted   what is run
    out      folder of logs and results
    seconds  of all steps together
    returns  name, state ("ok", "failed", "out of time", "no time left"), seconds and the last lines, run by run
    """
    out.mkdir(parents=True, exist_ok=True)
    end, done, late = time.monotonic() + seconds, list[dict[str, Any]](), list[tuple[Step, int, list[str]]]()
    for step in wanted:
        arguments, limit = step.arguments, min(end, time.monotonic() + step.seconds)
        for before in range(RUNS):
            state = _turn(step.name, before, arguments, limit, out, done)
            if state == "out of time" and step.noted:
                late.append((step, before + 1, arguments))
            arguments = step.left(before + 1) if state == "failed" else []
            if not arguments:
                break
    for step, before, arguments in late:
        _turn(step.name, before, arguments, end, out, done)
    return done


def _turn(name: str, before: int, arguments: list[str], limit: float, out: Path, done: list[dict[str, Any]]) -> str:
    """One process of a step, behind so many; how it ended goes to `done` and to the file of all."""
    start = time.monotonic()
    log = out / _log(name, before)
    state = _ended(arguments, log, limit - start) if limit - start > LEAST * bool(before) else "no time left"
    said = log.read_text(errors="replace").splitlines()[-30:] if log.exists() else []
    shown = f"{name} {before + 1}" if before else name
    done.append({"step": shown, "state": state, "seconds": round(time.monotonic() - start, 1), "said": said})
    print(f"{shown}: {state}, {done[-1]['seconds']} s", flush=True)
    (out / "gpu.json").write_text(json.dumps({"schema": "polykern-gpu/1", "steps": done}, indent=1) + "\n")
    return state


def _log(name: str, run: int) -> str:
    return f"gpu-{name.replace(' ', '-')}{f'-{run + 1}' if run else ''}.log"


def _ended(arguments: Sequence[str], log: Path, seconds: float) -> str:
    """How a process of Python ended that had so many seconds; none of its children outlives it."""
    with log.open("w") as text:
        line = [sys.executable, *arguments]
        process = subprocess.Popen(line, stdout=text, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            return "ok" if process.wait(seconds) == 0 else "failed"
        except subprocess.TimeoutExpired:
            return "out of time"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def missing() -> list[str]:
    """The modules that are not here."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def carried(folder: str) -> None:
    """Installs the wheels of `make gpu-wheels` into a folder that the steps see first."""
    wheels = [str(path) for path in sorted(WHEELS.glob("*.whl"))]
    line = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", folder, *wheels]
    subprocess.run(line, check=True)
    os.environ["PYTHONPATH"] = os.pathsep.join([os.environ.get("PYTHONPATH", ""), folder])
    sys.path.append(folder)


def main() -> int:
    """All steps and the page; 1 when one of them is not ok."""
    out = Path(os.environ.get("OUT") or ROOT / "benches" / "results")
    os.environ["PYTHONUNBUFFERED"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        if missing() and WHEELS.is_dir():
            carried(folder)
        if lacking := missing():
            print(f"make gpu: not installed: {', '.join(lacking)}; carry them: make gpu-wheels", file=sys.stderr)
        done = run(steps(out), out)
    print()
    for step in done:
        print(f"== {step['step']}: {step['state']}, {step['seconds']} s", *step["said"], "", sep="\n")
    return int(any(step["state"] != "ok" for step in done))


if __name__ == "__main__":
    raise SystemExit(main())
