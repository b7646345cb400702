"""`make gpu`: ceilings, tests, targets and benches of a CUDA device, ten minutes at most, one page at the end.

Every step is a process of its own with a limit; what it wrote stays when a later one fails or is out of time. Files
go to $OUT where that is set, else to benches/results.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ALL = 570.0  # seconds of all steps
ROOT = Path(__file__).parents[2]
WHEELS = ROOT / ".wheels"
NEEDED = (
    "torch", "triton", "numpy", "numba", "scipy", "sklearn", "matplotlib", "PIL", "jinja2", "safetensors", "fsspec",
    "xxhash", "typer", "rich", "pytest", "hypothesis", "jaxtyping", "beartype",
)  # fmt: skip
Step = tuple[str, float, list[str]]  # name, seconds at most, arguments of Python


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
    benches = ["-m", "polykern_benches", "--device", "cuda"]
    return [
        (
            "ceilings",
            60,
            ["-m", "polykern_benches.ceilings", "--device", "cuda", "--json", f"{out}/ceilings-cuda.json"],
        ),
        ("tests", 140, ["-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]),
        (
            "targets",
            150,
            ["-m", "polykern_benches.targets", "--budget", "110", "--json", f"{out}/targets-cuda.json"],
        ),
        *(
            (
                f"benches {name}",
                limit,
                [
                    *benches,
                    "--out",
                    f"{out}/bench-{name}-cuda.json",
                    *(x for glob in globs for x in ("--filter", glob)),
                ],
            )
            for (name, globs), limit in zip(BENCHES.items(), (110, 50, 40, 20), strict=True)
        ),
    ]


def run(wanted: Sequence[Step], out: Path, seconds: float = ALL) -> list[dict[str, Any]]:
    """Runs steps until the time is over; after each, OUT/gpu.json says what became of all.

    wanted   names, limits and arguments
    out      folder of logs and results
    seconds  of all steps together
    returns  name, state ("ok", "failed", "out of time", "no time left"), seconds and the last lines, step by step
    """
    out.mkdir(parents=True, exist_ok=True)
    end, done = time.monotonic() + seconds, []
    for name, limit, arguments in wanted:
        start, left = time.monotonic(), end - time.monotonic()
        log = out / f"gpu-{name.replace(' ', '-')}.log"
        state = "no time left"
        if left > 5:
            with log.open("w") as text:
                process = subprocess.Popen([sys.executable, *arguments], stdout=text, stderr=subprocess.STDOUT)
                try:
                    state = "ok" if process.wait(min(limit, left)) == 0 else "failed"
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    state = "out of time"
        said = log.read_text(errors="replace").splitlines()[-30:] if log.exists() else []
        done.append({"step": name, "state": state, "seconds": round(time.monotonic() - start, 1), "said": said})
        print(f"{name}: {state}, {done[-1]['seconds']} s", flush=True)
        (out / "gpu.json").write_text(json.dumps({"schema": "polykern-gpu/1", "steps": done}, indent=1) + "\n")
    return done


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
