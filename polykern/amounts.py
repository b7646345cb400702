"""Amounts of memory: what this process has, and how a person reads a number of bytes."""

import sys
from pathlib import Path


def resident() -> int:
    """Bytes of this process that are in memory now; the most there ever were where the system does not say."""
    import resource

    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * resource.getpagesize()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def shown(amount: float) -> str:
    """Bytes as a person reads them: 1.3 GiB."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1024
    return f"{amount:.3g} TiB"
