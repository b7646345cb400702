"""A process that writes made-up stores in children and has them killed; driven line by line over its pipes.

A line is a JSON object {path, call, torn, microseconds}: the child is killed by SIGKILL at its call number `call`
of open, write, fsync, replace, unlink, mkdir or rmdir: before it happens, or, with `torn`, after half of the bytes
were written or all of the call was done. Or it is killed by a timer after so many microseconds. The answer is
{acknowledged, calls, ended}: shards whose `write` returned, calls that were made, and the status the child ended
with.
"""

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import tests.store.synthetic as made_up
from polykern.store import Writer

CALLS = ("open", "write", "fsync", "replace", "unlink", "mkdir", "rmdir")


class Killer:
    """The operating system's calls, counted, with a death at one of them."""

    def __init__(self, call: int | None, torn: bool, pipe: int) -> None:
        self.left, self.torn, self.pipe, self.calls = call, torn, pipe, 0
        self.say = os.write
        for name in CALLS:
            setattr(os, name, self.watched(name, getattr(os, name)))

    def watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if name == "open" and not args[1] & os.O_CREAT:
                return real(*args, **kwargs)
            self.calls += 1
            if self.calls == self.left:
                if self.torn and name == "write":
                    real(args[0], args[1][: len(args[1]) // 2])
                elif self.torn:
                    with suppress(OSError):
                        real(*args, **kwargs)
                self.tell("c", self.calls)
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    def tell(self, what: str, number: int) -> None:
        self.say(self.pipe, f"{what}{number}\n".encode())


def child(plan: dict[str, Any], pipe: int) -> None:
    """Write the store of three shards; tell the pipe of every shard that is committed."""
    killer = Killer(plan.get("call"), bool(plan.get("torn")), pipe)
    if plan.get("microseconds"):
        signal.setitimer(signal.ITIMER_REAL, plan["microseconds"] / 1e6)  # whose signal ends a process
    write = Writer.write

    def told(self: Writer, *args: Any, **kwargs: Any) -> Any:
        record = write(self, *args, **kwargs)
        killer.tell("a", record.shard)
        return record

    Writer.write = told  # type: ignore[method-assign]
    made_up.write(Path(plan["path"]), overwrite=bool(plan.get("overwrite")))
    killer.tell("c", killer.calls)


def carried_out(plan: dict[str, Any]) -> dict[str, Any]:
    """What came of one child."""
    reader, pipe = os.pipe()
    process = os.fork()
    if not process:
        try:
            os.close(reader)
            child(plan, pipe)
        except BaseException as error:
            sys.stderr.write(f"{error!r}\n")
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    os.close(pipe)
    with os.fdopen(reader) as told:
        lines = told.read().split()
    ended = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    numbers = {what: [int(line[1:]) for line in lines if line[0] == what] for what in "ac"}
    return {"acknowledged": len(numbers["a"]), "calls": max(numbers["c"], default=0), "ended": ended}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:  # whatever is loaded late is loaded once
        made_up.write(Path(folder) / "a.codes")
    for line in sys.stdin:
        print(json.dumps(carried_out(json.loads(line))), flush=True)
