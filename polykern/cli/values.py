"""How the words of a command line become values."""

import math
import re

from polykern.errors import ResourceError, UsageError
from polykern.launch import launch

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?", re.IGNORECASE)
_DEVICE = re.compile(r"auto|cpu|cuda(?::(\d{1,3}))?")
BACKENDS = ("auto", "cpu", "triton", "reference")


def size(word: str) -> int:
    """Bytes of a word like 2GiB, 800MB, 1.5g or 4096; raises UsageError for any other."""
    found = _SIZE.fullmatch(word.strip())
    if found is None:
        raise UsageError(f"{word!r} is no amount of memory", fix="write it like 2GiB, 800MB or 4096 (bytes)")
    amount = float(found[1]) * UNITS[(found[2] or "").lower()]
    if not 1 <= amount < 2**63:
        raise UsageError(f"{word} is no amount of memory a process can have")
    return int(amount)


def finite(option: str, *values: float) -> None:
    """Raise UsageError naming the option unless every value is a number."""
    for value in values:
        if not math.isfinite(value):
            raise UsageError(f"{option} must be finite, got {value}")


def positive(option: str, value: float) -> None:
    """Raise UsageError naming the option unless the value is a number above zero."""
    finite(option, value)
    if value <= 0:
        raise UsageError(f"{option} must be positive, got {value:g}")


def one_of(option: str, word: str, words: tuple[str, ...]) -> None:
    """Raise UsageError naming the option and its words unless the word is one of them."""
    if word not in words:
        raise UsageError(f"{option} has no {word!r}", fix=f"choose one of {', '.join(words)}")


def device(wanted: str, backend: str) -> str:
    """Where to compute: "cpu" or "cuda:N".

    wanted   "auto" takes the first GPU, of several processes each its own, or the CPU where there is none
    backend  "triton" runs on a GPU, "cpu" on the CPU; "auto" and "reference" go where `wanted` says

    Raises UsageError where the two contradict each other, ResourceError where there is no such device.
    """
    one_of("--backend", backend, BACKENDS)
    found = _DEVICE.fullmatch(wanted)
    if found is None:
        raise UsageError(f"--device has no {wanted!r}", fix="choose auto, cpu, cuda:0, cuda:1, ...")
    if (backend, wanted) == ("triton", "cpu") or (backend == "cpu" and wanted.startswith("cuda")):
        raise UsageError(f"--backend {backend} does not run on {wanted}", fix="leave one of the two out")
    if "cpu" in (wanted, backend):
        return "cpu"
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "auto" and backend != "triton" and not count:
        return "cpu"
    index = int(found[1] or launch().local % max(count, 1))
    if index >= count:
        raise ResourceError(
            f"there is no device cuda:{index}",
            why=f"torch {torch.__version__} sees {count or 'no'} CUDA device{'s' * (count > 1)}",
            fix="--device cpu; polykern doctor says more",
        )
    return f"cuda:{index}"
