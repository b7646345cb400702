"""What went wrong, in three lines, and the exit code that says it to a script."""

import errno
import os
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import typer

from polykern.cli import settings
from polykern.cli.talk import TRACEBACK, Talk
from polykern.errors import PolykernError, ResourceError, UsageError, first_line, out_of_memory

SCHEMA = "polykern-error/1"
BUG, PIPE = 1, 141
AGAIN = 0.01  # seconds until a signal that went unheard
UNCACHED = "no locator available"  # what numba says where it may write nowhere
FULL = {
    errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EIO, errno.EFBIG, errno.EINTR,
}  # fmt: skip
BARRED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}
# options of which a smaller number takes less memory, the more telling ones first
SMALLER = (
    "batch", "resolution", "limit_tokens", "shard_size", "length", "points", "rows", "directions", "count", "steps",
    "pairs", "groups",
)  # fmt: skip
# typer carries click inside itself from some version on; both name the base of their errors so
_Misused = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


class Interrupted(BaseException):
    """A signal asked the run to end."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


@contextmanager
def watched() -> Iterator[None]:
    """A context in which SIGINT and SIGTERM raise `Interrupted`; ignored signals stay ignored.

    Python goes on where an exception comes in a finaliser or in a callback of its own: from there the signal comes
    again.
    """
    before, unheard, waiting = {}, sys.unraisablehook, list[threading.Timer]()

    def heard(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, Interrupted):
            waiting.append(threading.Timer(AGAIN, os.kill, (os.getpid(), unraisable.exc_value.number)))
            waiting[-1].start()
        else:
            unheard(unraisable)

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, _interrupt)
        sys.unraisablehook = heard
        try:
            yield
        finally:
            for timer in waiting:
                timer.cancel()
                timer.join()  # what is on its way comes while it is handled
    finally:
        sys.unraisablehook = unheard
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_code(error: BaseException, talk: Talk) -> int:
    """Say what went wrong and give the exit code.

    With --json one object `polykern-error/1` goes to stdout, beside the lines on stderr.
    """
    if isinstance(error, Interrupted | KeyboardInterrupt):
        return _interrupted(error, talk)
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the last flush does not fail as well
        return PIPE
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    told = _told(error, talk)
    if talk.verbosity >= TRACEBACK or os.environ.get("POLYKERN_TRACEBACK") == "1":
        traceback.print_exception(error)
    talk.say(told.what, "error", why=told.why, fix=told.fix)
    code = told.exit_code
    _object(talk, code, type(told).__name__ if code != BUG else type(error).__name__, told)
    return code


def _told(error: BaseException, talk: Talk) -> PolykernError:
    """The error in the words of `polykern.errors`; what is none of them is a bug."""
    if isinstance(error, ResourceError):
        return error
    if (scarce := _scarce(error)) is not None:  # also where somebody took it for a file that cannot be read
        why = first_line(scarce) if scarce is error else f"{first_line(error)}: {first_line(scarce)}"
        return ResourceError("out of memory", why=why, fix=_less(talk))
    if isinstance(error, PolykernError):
        return error
    if isinstance(error, _Misused):
        return UsageError(error.format_message(), why=_set_by(error), fix=_help(error))  # type: ignore[attr-defined]
    if isinstance(error, RuntimeError) and UNCACHED in str(error):
        fix = "set NUMBA_CACHE_DIR to a folder that can be written"
        return ResourceError("compiled loops cannot be kept", why=first_line(error), fix=fix)
    if isinstance(error, OSError) and error.errno in FULL:
        return ResourceError(f"{error.filename or 'a file'} cannot be written", why=error.strerror or str(error))
    if isinstance(error, OSError) and error.errno in BARRED:
        return UsageError(f"{error.filename} cannot be used", why=error.strerror or str(error))
    if type(error).__name__ == "BackendError":
        what, *objections = str(error).splitlines()
        return UsageError(what, why="; ".join(o.strip() for o in objections))
    return PolykernError(
        f"{type(error).__name__}: {first_line(error)}",
        why="this is a bug in polykern",
        fix="report it, with what POLYKERN_TRACEBACK=1 in the environment prints",
    )


def _interrupted(error: BaseException, talk: Talk) -> int:
    number = error.number if isinstance(error, Interrupted) else int(signal.SIGINT)
    what = f"interrupted by {signal.Signals(number).name}"
    why, fix = "nothing was written", ""
    if talk.started:
        why = "finished rows are kept; the same command goes on with the next one"
        fix = shlex.join(word for word in talk.command if word != "--overwrite")  # which would begin again
    elif talk.touched and talk.out is not None and talk.out.is_file():  # such a file is there whole or not at all
        why = f"{talk.out} holds the whole result"
    elif talk.kept is not None:
        why = f"{talk.kept} holds what was reached before"
    elif talk.touched:
        why = f"{talk.out} holds a part of the result, which no command takes for the whole"
        again = () if "--overwrite" in talk.command else ("--overwrite",)
        fix = shlex.join((*talk.command, *again))
    talk.say(what, "error", why=why, fix=fix)
    _object(talk, 128 + number, "Interrupted", PolykernError(what, why=why, fix=fix))
    return 128 + number


def _object(talk: Talk, code: int, kind: str, told: PolykernError) -> None:
    if talk.json:
        parts = {"what": told.what, "why": told.why, "fix": told.fix}
        talk.object({"schema": SCHEMA, "ok": False, "exit_code": code, "kind": kind, **parts})


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)


def _scarce(error: BaseException | None) -> BaseException | None:
    """What said that memory does not suffice: an error, or what it was made of; None where nothing did."""
    while error is not None and not out_of_memory(error):
        error = error.__cause__ or error.__context__
    return error


def _less(talk: Talk) -> str:
    """How a command gets by with less memory: the options that it has."""
    own = [f"--{name.replace('_', '-')}" for name in SMALLER if name in talk.settings]
    return f"a smaller {' or '.join(own[:2])}, or more memory" if own else "a smaller model, or more memory"


def _help(error: BaseException) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path} --help" if context is not None else "polykern --help"


def _set_by(error: BaseException) -> str:
    """Where a value that does not fit came from, when not from the command line."""
    context, param = getattr(error, "ctx", None), getattr(error, "param", None)
    if context is None or getattr(param, "envvar", None) is None:
        return ""
    told = settings.source(context, param)
    return "" if told in (settings.DEFAULT, settings.LINE) else f"set by {told}"
