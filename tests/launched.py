"""Processes that were started together, as torchrun starts them; their store has found the port."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch.distributed import TCPStore  # type: ignore[attr-defined]

LONGEST = 600.0  # seconds of a process
PATIENCE = "60"  # seconds that a rank waits for another


@dataclass(frozen=True)
class Ended:
    """One process that has ended: its exit code and what it said."""

    code: int
    out: str
    err: str


def together(size: int, words: Sequence[str], more: Mapping[str, str]) -> list[Ended]:
    """`python WORDS` as `size` ranks, one thread each, until all have ended.

    more  variables of their environment
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    started = []
    for rank in range(size):
        told = {
            "RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True",
        }  # fmt: skip
        started.append(begun(words, told | dict(more)))
    try:
        return [ended(process) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()


def begun(words: Sequence[str], told: dict[str, str], within: Sequence[str] = ()) -> subprocess.Popen[str]:
    """One process with some variables besides those of the tests, perhaps by another command."""
    alone = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "POLYKERN_RANK_TIMEOUT": PATIENCE}
    line = [*within, sys.executable, *words]
    environment = {**os.environ, **alone, **told}
    return subprocess.Popen(line, text=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ended(process: subprocess.Popen[str]) -> Ended:
    """A process, once it has ended."""
    out, err = process.communicate(timeout=LONGEST)
    return Ended(process.returncode, out, err)
