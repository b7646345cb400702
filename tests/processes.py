"""Several processes of one run, as a launcher starts them."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
LEFT_OUT = ("RANK", "SLURM_", "MASTER_", "WORLD_SIZE", "LOCAL_")


class Ended(NamedTuple):
    """How a process ended: its status, and what it wrote."""

    code: int
    out: str
    err: str


def started(
    count: int, words: list[str], only: Mapping[int, Mapping[str, str]] | None = None, seconds: float = 120
) -> list[Ended]:
    """Run `python -m words` in so many processes that meet on this machine.

    only     rank -> variables of that process
    seconds  after which the test fails
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    plain = {k: v for k, v in os.environ.items() if not k.startswith(LEFT_OUT)}
    plain |= {"OMP_NUM_THREADS": "1", "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    plain |= {"MASTER_PORT": str(port), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", *words],
            text=True,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**plain, "RANK": str(rank), "LOCAL_RANK": str(rank), **(only or {}).get(rank, {})},
        )
        for rank in range(count)
    ]
    try:
        said = [process.communicate(timeout=seconds) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    return [Ended(process.returncode, *both) for process, both in zip(running, said, strict=True)]
