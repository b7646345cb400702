"""A process that carries out commands in children with little memory; driven line by line over its pipes.

A line is a JSON object {words, room}: a child that may take `room` more bytes of address space than the process
has, or any number where room is 0, carries out `polykern WORDS`. The answer is {code, said, peak}: the status it
ended with, its stderr, and the largest resident set in bytes. Where room is null the process itself does it.
"""

import json
import os
import resource
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from polykern.cli.app import run

LONGEST = 300  # seconds of a child


def carried_out(words: list[str], room: int) -> dict[str, Any]:
    """What became of one child."""
    with tempfile.TemporaryFile() as said:
        process = os.fork()
        if not process:
            os.dup2(said.fileno(), 2)
            signal.alarm(LONGEST)  # whose signal ends a process that waits for ever
            if room:
                taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (taken + room, resource.RLIM_INFINITY))
            os._exit(run(words))
        _, status, used = os.wait4(process, 0)
        said.seek(0)
        text = said.read().decode(errors="replace")
    return {"code": os.waitstatus_to_exitcode(status), "said": text, "peak": used.ru_maxrss * 1024}


if __name__ == "__main__":
    torch.set_num_threads(1)  # a child has no threads but its own
    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin:
        plan = json.loads(line)
        here = plan["room"] is None  # so that whatever is loaded late is loaded once
        answer = {"code": run(plan["words"])} if here else carried_out(plan["words"], plan["room"])
        os.write(answers, (json.dumps(answer) + "\n").encode())
