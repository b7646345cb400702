"""Memory: what is free, and how much a run adds at its peak."""

import ctypes
import gc
import sys
from pathlib import Path

import torch

LOST = "the device is lost: what ran before ended its context"
STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
SYSTEM = Path("/proc/meminfo")
KIB = 1024


def available(device: str) -> int | None:
    """Bytes that can still be had, None where nobody says."""
    if device == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return int(free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated())
    return _kibibytes(SYSTEM, "MemAvailable")


def total() -> int | None:
    """Bytes of memory of this machine, None where nobody says."""
    return _kibibytes(SYSTEM, "MemTotal")


def lost(device: str) -> bool:
    """Whether a CUDA device answers no more: behind an illegal access nothing runs on it in this process."""
    if device != "cuda":
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


class Peak:
    """The most memory that was held since it was made, above what was held then.

    device  "cpu": of the process; "cuda", "cuda:0": what torch allocated
    """

    def __init__(self, device: str) -> None:
        self.device = torch.device(device).type
        gc.collect()
        if self.device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self.before: int | None = torch.cuda.memory_allocated()
        else:
            _trim()
            self.before = _kibibytes(STATUS, "VmRSS")
            self.forgotten = _forget()

    def added(self) -> int | None:
        """Bytes, None where the system does not say."""
        if self.before is None:
            return None
        if self.device == "cuda":
            torch.cuda.synchronize()
            return int(torch.cuda.max_memory_allocated()) - self.before
        peak = _kibibytes(STATUS, "VmHWM") if self.forgotten else None
        return None if peak is None else max(0, peak - self.before)


def release(device: str) -> None:
    """Give back what nobody refers to any more."""
    gc.collect()
    if device == "cuda" and not lost(device):
        torch.cuda.empty_cache()


def _kibibytes(path: Path, key: str) -> int | None:
    """Bytes in a line `key: N kB` of a file of the system."""
    if not path.exists():
        return None
    found = [line for line in path.read_text().splitlines() if line.startswith(f"{key}:")]
    return int(found[0].split()[1]) * KIB if found else None


def _forget() -> bool:
    """VmHWM starts again from what is held now, where the system lets a process ask for it."""
    try:
        FORGET.write_text("5")
    except OSError:
        return False
    return True


def _trim() -> None:
    """Freed memory goes back to the system, so that taking it again is seen."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
