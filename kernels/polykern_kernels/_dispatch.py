"""Choosing who runs an operation: the first implementation that has no objection."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
    """The implementation called `wanted`, or the first in order that has no objection."""
    known = [i.name for i in impls]
    if wanted is not None and wanted not in known:
        raise BackendError(f"{op}: no backend {wanted!r}; it has {', '.join(known)}")
    objections: list[str] = []
    for impl in impls:
        if wanted not in (None, impl.name):
            continue
        reason = impl.objection(*args)
        if reason is None:
            return impl
        objections.append(f"  {impl.name}: {reason}")
    shown = ", ".join(describe(a) for a in args)
    raise BackendError("\n".join([f"{op}: nothing can run ({shown})", *objections]))


def cpu_objection(*args: Tensor) -> str | None:
    """Why the CPU implementation cannot take these tensors, or None."""
    elsewhere = next((a for a in args if a.device.type != "cpu"), None)
    return None if elsewhere is None else f"needs CPU tensors, got {elsewhere.device}"


def describe(x: Tensor) -> str:
    """int32[128, 4]@cuda:0"""
    return f"{str(x.dtype).removeprefix('torch.')}{list(x.shape)}@{x.device}"
