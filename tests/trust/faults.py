"""The system's calls that write, counted, with one fault in them: a death, an error, an interrupt, a short write.

Counted are open for writing, write, fsync, fallocate, replace, rename, unlink, mkdir, rmdir and the flush of a
mapped file, whoever calls them: os, pathlib, open(), NumPy's memory maps. `Fault` says at which call what happens.
"""

import builtins
import errno
import io
import mmap
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

NAMES = ("open", "write", "fsync", "posix_fallocate", "replace", "rename", "unlink", "remove", "mkdir", "rmdir")
SIGNALS = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM}
ERRNO = {name: getattr(errno, name) for name in ("ENOSPC", "EIO", "EINTR", "EACCES", "EDQUOT", "EROFS")}


@dataclass(frozen=True)
class Fault:
    """What happens at call number `at`, from 1 on; 0: nothing.

    kind   "kill": SIGKILL before the call; "torn": after half of what it writes, or after all of it; the name of an
           error; "interrupt": KeyboardInterrupt; "SIGINT", "SIGTERM": that signal before the call; "short": from
           there on a write takes half of its bytes
    lasts  whether an error comes at every later call as well
    """

    at: int = 0
    kind: str = ""
    lasts: bool = False


class System:
    """The calls so far, and the fault that waits in them."""

    def __init__(self, fault: Fault) -> None:
        self.fault, self.calls = fault, 0

    def call(self, name: str, real: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make one call, unless the fault says otherwise."""
        self.calls += 1
        fault = self.fault
        if fault.kind == "short" and name == "write" and self.calls >= fault.at:
            return real(*args[:-1], _half(args[-1]))
        if self.calls == fault.at or (fault.lasts and 0 < fault.at < self.calls):
            self._happen(name, real, args, kwargs)
        return real(*args, **kwargs)

    def _happen(self, name: str, real: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        kind = self.fault.kind
        if kind == "interrupt":
            raise KeyboardInterrupt
        if kind in SIGNALS:
            signal.raise_signal(SIGNALS[kind])
        if kind in ERRNO:
            raise OSError(ERRNO[kind], os.strerror(ERRNO[kind]))
        if kind == "torn":
            with suppress(OSError):
                real(*args[:-1], _half(args[-1])) if name == "write" else real(*args, **kwargs)
        if kind in ("kill", "torn"):
            os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def watched(fault: Fault = Fault()) -> Iterator[System]:
    """A context in which the calls are counted and the fault happens."""
    system = System(fault)
    with pytest.MonkeyPatch.context() as patch:
        for name in NAMES:
            if hasattr(os, name):
                patch.setattr(os, name, _counted(system, name, getattr(os, name)))
        patch.setattr(mmap, "mmap", _mapped(system, mmap.mmap))
        opened = _opened(system, io.open)
        patch.setattr(io, "open", opened)
        patch.setattr(builtins, "open", opened)
        yield system


def _half(block: Any) -> memoryview:
    view = memoryview(block).cast("B")
    return view[: max(1, len(view) // 2)] if len(view) else view


def _counted(system: System, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if name == "open" and not (len(args) > 1 and args[1] & os.O_CREAT):
            return real(*args, **kwargs)
        return system.call(name, real, args, kwargs)

    return call


def _mapped(system: System, real: type[mmap.mmap]) -> type[mmap.mmap]:
    class Mapped(real):  # type: ignore[misc, valid-type]
        def flush(self, *args: Any) -> Any:
            return system.call("flush", super().flush, args, {})

    return Mapped


def _opened(system: System, real: Callable[..., Any]) -> Callable[..., Any]:
    """open() whose files, where they are written, count what reaches the system."""

    class Raw(io.FileIO):
        def write(self, block: Any, /) -> int:
            return int(system.call("write", super().write, (block,), {}))

    def call(file: Any, mode: str = "r", buffering: int = -1, *args: Any, **kwargs: Any) -> Any:
        if isinstance(file, int) or "opener" in kwargs or not set(mode) & set("wax+"):
            return real(file, mode, buffering, *args, **kwargs)
        raw = system.call("open", Raw, (file, mode.replace("b", "").replace("t", "")), {})
        if buffering == 0:
            return raw
        held: Any = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return held if "b" in mode else io.TextIOWrapper(held, *args, **kwargs)

    return call
