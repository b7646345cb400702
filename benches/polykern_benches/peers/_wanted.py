"""Whether a peer can run here."""

import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor

from polykern_kernels._dispatch import cpu_objection

Objection = Callable[..., str | None]


def on_cpu(module: str, line: str) -> Objection:
    """An objection where a module is missing, with its installing line, or where tensors are not the CPU's."""

    def objection(*args: Tensor) -> str | None:
        return missing(module, line) or cpu_objection(*args)

    return objection


def on_cuda(module: str, line: str) -> Objection:
    """The same for tensors of a CUDA device."""

    def objection(*args: Tensor) -> str | None:
        if not torch.cuda.is_available():
            return "no CUDA device"
        elsewhere = next((a for a in args if a.device.type != "cuda"), None)
        return missing(module, line) or (
            None if elsewhere is None else f"needs CUDA tensors, got {elsewhere.device}"
        )

    return objection


def missing(module: str, line: str) -> str | None:
    """The line that installs what is not here."""
    return None if importlib.util.find_spec(module) else f"not installed: pip install {line}"


def octets(words: Tensor) -> Tensor:
    """uint8 (n, 4 words): the bytes of packed codes."""
    return words.contiguous().view(torch.uint8)
