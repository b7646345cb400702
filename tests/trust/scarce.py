"""Memory that runs out where a test wants it: at an allocation of torch, or where an engine does its work.

scarce(fault)    every tensor that torch makes is counted, and one of them, or all from one on, is refused
failing(...)     the door that engines go through (`polykern.halves.halved`) refuses work
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from polykern import halves
from tests.trust.faults import Fault

DOORS = (
    "tiles.engine", "dense", "anchored.engine", "points", "paths.evaluation", "lines.sampled", "lines.pieces",
    "clustering.panels", "clustering.space", "clustering.medoids",
)  # fmt: skip
NEVER = Fault()
SAID = "CUDA out of memory. Tried to allocate 20.00 MiB"


class _Allocator(TorchDispatchMode):
    """Counts the tensors that are made, and refuses some."""

    def __init__(self, fault: Fault) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.fault, self.calls = fault, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Carry out a call of torch, unless it makes the tensor at which memory runs out."""
        given = {a.untyped_storage()._cdata for a in args if isinstance(a, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in given:
                self.calls += 1
                fault = self.fault
                if self.calls == fault.at or (fault.lasts and 0 < fault.at < self.calls):
                    raise torch.OutOfMemoryError(SAID)
        return out


class _Here(ThreadPoolExecutor):
    """A pool whose work is done where it is asked for: a mode of torch is of one thread."""

    def map(self, fn: Callable[..., Any], *rows: Any, **how: Any) -> Iterator[Any]:
        """Of the caller's thread."""
        return map(fn, *rows)


@contextmanager
def scarce(fault: Fault = NEVER) -> Iterator[_Allocator]:
    """A context in which the tensors that torch makes are counted, and memory runs out at number `fault.at`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("polykern.tiles.engine.ThreadPoolExecutor", _Here)
        with _Allocator(fault) as allocator:
            yield allocator


@contextmanager
def failing(refused: Callable[[int, Any], bool]) -> Iterator[list[int]]:
    """A context in which work is refused for want of memory; gives the list of what was asked for, in order.

    refused  of the number of the call, from 1 on, and the work
    """
    asked: list[int] = []
    real = halves.halved

    def halved(job: Callable[[Any], Any], work: Any, **how: Any) -> list[Any]:
        def tried(some: Any) -> Any:
            asked.append(len(asked) + 1)
            if refused(asked[-1], some):
                raise torch.OutOfMemoryError(SAID)
            return job(some)

        return real(tried, work, **how)

    with pytest.MonkeyPatch.context() as patch:
        for module in DOORS:
            patch.setattr(f"polykern.{module}.halved", halved)
        yield asked
