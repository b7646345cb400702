"""Choosing who runs an operation: the first implementation that has no objection.

POLYKERN_BACKEND in the environment names the backend of every call that names none: b1, dot, triton, cpu or
reference. A family that has it runs it or raises BackendError. One without code of its own for the CPU takes the
reference for it; one that has none of the others keeps its order. auto, which is the default, names none.

Whoever is asked and whoever runs finds the device of the tensors current: kernels are launched there, not where the
tensors are.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

BACKEND = "POLYKERN_BACKEND"
NAMES = ("b1", "dot", "triton", "cpu", "reference")
UNNAMED = ("", "auto", "cuml")  # what the command line knows and no kernel does


class BackendError(RuntimeError):
    """No implementation can run this call; the message lists each one's objection."""


@dataclass(frozen=True, slots=True)
class Impl:
    """One way to run an operation. `objection` says why it cannot, or None if it can."""

    name: str
    run: Callable[..., Any]
    objection: Callable[..., str | None]


def choose(op: str, impls: Sequence[Impl], wanted: str | None, *args: Tensor, **kind: str) -> Impl:
    """The implementation called `wanted`, or the first in order that has no objection to the tensors of this kind.

    It runs on the device of the tensors. On CPU tensors Triton is its interpreter, made for tests: unless it is
    named it comes last.
    """
    known = [i.name for i in impls]
    if wanted is None:
        wanted = _named(op, known)
    if wanted is not None and wanted not in known:
        raise BackendError(f"{op}: no backend {wanted!r}; it has {', '.join(known)}")
    objections: list[str] = []
    place = next((a.device for a in args if a.device.type == "cuda"), torch.device("cpu"))
    interpreted = all(a.device.type == "cpu" for a in args)
    for impl in sorted(impls, key=lambda i: interpreted and i.name in ("dot", "triton")):
        if wanted not in (None, impl.name):
            continue
        with on(place):
            reason = impl.objection(*args, **kind)
        if reason is None:
            return replace(impl, run=partial(_run, place, impl.run))
        objections.append(f"  {impl.name}: {reason}")
    shown = ", ".join(describe(a) for a in args)
    raise BackendError("\n".join([f"{op}: nothing can run ({shown})", *objections]))


def on(device: torch.device) -> AbstractContextManager[Any]:
    """A context in which a CUDA device is the current one; nothing changes for any other."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _run(device: torch.device, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with on(device):
        return run(*args, **kwargs)


def _named(op: str, known: Sequence[str]) -> str | None:
    """The backend that the environment names, as far as it is one of these."""
    word = os.environ.get(BACKEND, "")
    if word in known:
        return word
    if word in UNNAMED:
        return None
    if word not in NAMES:
        raise BackendError(f"{op}: {BACKEND} is {word!r}; it can be auto, {', '.join(NAMES)}")
    return "reference" if word == "cpu" and "reference" in known else None


def backends(
    family: str,
    name: str,
    *,
    cpu: Callable[..., Any] | None = None,
    reference: Callable[..., Any],
    b1: bool = False,
    dot: bool = False,
) -> tuple[Impl, ...]:
    """The ways to run one operation, in order of preference.

    family     stem of the family; its Triton code is `device.FAMILY`, imported on first use
    name       name of the operation, here and there
    cpu        runs it on CPU tensors; None where the reference does
    reference  runs it anywhere
    b1         whether `device.b1_FAMILY` has it for 1-bit tensor cores
    dot        whether `device.dot_FAMILY` has it, with products of bytes, for devices that emulate those of bits
    """
    tensor_cores = Impl("b1", _launcher(f"b1_{family}", name), _objection("b1_objection"))
    stand_in = Impl("dot", _launcher(f"dot_{family}", name), _objection("dot_objection"))
    return (
        *((tensor_cores,) if b1 else ()),
        *((stand_in,) if dot else ()),
        Impl("triton", _launcher(family, name), _objection("objection")),
        *((Impl("cpu", cpu, cpu_objection),) if cpu is not None else ()),
        Impl("reference", reference, lambda *args, **kind: None),
    )


def _launcher(module: str, name: str) -> Callable[..., Any]:
    """Runs a function of a device module."""

    def run(*args: Any, **kwargs: Any) -> Any:
        return getattr(import_module(f"polykern_kernels.device.{module}"), name)(*args, **kwargs)

    return run


def _objection(name: str) -> Callable[..., str | None]:
    def objection(*args: Tensor, **kind: str) -> str | None:
        found: Callable[..., str | None] = getattr(import_module("polykern_kernels.device"), name)
        return found(*args, **kind)

    return objection


def cpu_objection(*args: Tensor, **kind: str) -> str | None:
    """Why the CPU implementation cannot take these tensors, or None."""
    elsewhere = next((a for a in args if a.device.type != "cpu"), None)
    return None if elsewhere is None else f"needs CPU tensors, got {elsewhere.device}"


def describe(x: Tensor) -> str:
    """int32[128, 4]@cuda:0"""
    return f"{str(x.dtype).removeprefix('torch.')}{list(x.shape)}@{x.device}"
