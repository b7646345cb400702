"""A bench as several ranks on this machine: what each of them prints."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from torch.distributed import TCPStore  # type: ignore[attr-defined]  # its stub leaves the stores out


def said(
    module: str, words: Sequence[str], size: int, more: Mapping[str, str] | None = None, *, strangers: bool = False
) -> list[Any]:
    """The JSON that each of `size` ranks of a module prints, in their order.

    module     of this package, run as a program
    words      its command line
    size       ranks, one thread each and, where there are enough, a core each
    more       variables of their environment
    strangers  they run side by side, each a process alone

    The store that they meet at has found a port by itself. Raises SystemExit when one of them fails.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    cores = sorted(os.sched_getaffinity(0))
    children = []
    for rank in range(size):
        place, count = (0, 1) if strangers else (rank, size)
        told = {
            "RANK": str(place), "WORLD_SIZE": str(count), "LOCAL_RANK": str(place), "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True",
            "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1",
        }  # fmt: skip
        line = [sys.executable, "-m", f"polykern_benches.{module}", *words]
        environment = {**os.environ, **told, **(more or {})}
        child = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True)
        if size <= len(cores):
            os.sched_setaffinity(child.pid, {cores[rank]})
        children.append(child)
    outputs = [child.communicate()[0] for child in children]
    if any(child.returncode for child in children):
        raise SystemExit("a rank has failed: no time was taken")
    return [json.loads(output) for output in outputs]
