"""A process that writes made-up results in children that die; driven line by line over its pipes.

A line is a JSON object {name, path, seed, overwrite, at, kind, microseconds}: the child writes that kind of result
and is killed as `tests.trust.faults.Fault` says, or by a timer after so many microseconds. The answer is the status
it ended with.
"""

import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from tests.trust.faults import Fault, watched
from tests.trust.writers import EVERY


def carried_out(plan: dict[str, Any]) -> int:
    """The status of one child."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    try:
        if plan.get("microseconds"):
            signal.setitimer(signal.ITIMER_REAL, plan["microseconds"] / 1e6)  # whose signal ends a process
        with watched(Fault(plan.get("at", 0), plan.get("kind", ""))):
            EVERY[plan["name"]].write(Path(plan["path"]), plan.get("seed", 0), overwrite=plan["overwrite"])
    except BaseException as error:
        sys.stderr.write(f"{error!r}\n")
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    torch.set_num_threads(1)  # a child has no threads but its own
    with tempfile.TemporaryDirectory() as folder:
        for made in EVERY.values():  # whatever is loaded late is loaded once
            made.write(Path(folder) / made.name)
    for line in sys.stdin:
        print(carried_out(json.loads(line)), flush=True)
