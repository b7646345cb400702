"""Choosing who runs an operation: the first implementation that has no objection."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import Tensor


class BackendError(RuntimeError):
    """No implementation can run this call; the message lists each one's objection."""


@dataclass(frozen=True, slots=True)
class Impl:
    """One way to run an operation. `objection` says why it cannot, or None if it can."""

    name: str
    run: Callable[..., Any]
    objection: Callable[..., str | None]


def choose(op: str, impls: Sequence[Impl], wanted: str | None, *args: Tensor) -> Impl:
    """The implementation called `wanted`, or the first in order that has no objection.

    On CPU tensors Triton is its interpreter, made for tests: unless it is named it comes last.
    """
    known = [i.name for i in impls]
    if wanted is not None and wanted not in known:
        raise BackendError(f"{op}: no backend {wanted!r}; it has {', '.join(known)}")
    objections: list[str] = []
    interpreted = all(a.device.type == "cpu" for a in args)
    for impl in sorted(impls, key=lambda i: interpreted and i.name == "triton"):
        if wanted not in (None, impl.name):
            continue
        reason = impl.objection(*args)
        if reason is None:
            return impl
        objections.append(f"  {impl.name}: {reason}")
    shown = ", ".join(describe(a) for a in args)
    raise BackendError("\n".join([f"{op}: nothing can run ({shown})", *objections]))


def backends(family: str, name: str, *, cpu: Callable[..., Any], reference: Callable[..., Any]) -> tuple[Impl, ...]:
    """The ways to run one operation, in order of preference.

    family     stem of the family; its Triton code is `device.FAMILY`, imported on first use
    name       name of the operation, here and there
    cpu        runs it on CPU tensors
    reference  runs it anywhere
    """

    def triton(*args: Any, **kwargs: Any) -> Any:
        module = import_module(f"polykern_kernels.device.{family}")
        return getattr(module, name)(*args, **kwargs)

    def triton_objection(*args: Tensor) -> str | None:
        objection: Callable[..., str | None] = import_module("polykern_kernels.device").objection
        return objection(*args)

    return (
        Impl("triton", triton, triton_objection),
        Impl("cpu", cpu, cpu_objection),
        Impl("reference", reference, lambda *args: None),
    )


def cpu_objection(*args: Tensor) -> str | None:
    """Why the CPU implementation cannot take these tensors, or None."""
    elsewhere = next((a for a in args if a.device.type != "cpu"), None)
    return None if elsewhere is None else f"needs CPU tensors, got {elsewhere.device}"


def describe(x: Tensor) -> str:
    """int32[128, 4]@cuda:0"""
    return f"{str(x.dtype).removeprefix('torch.')}{list(x.shape)}@{x.device}"
