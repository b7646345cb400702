"""What a measurement is worth nothing without: the machine, the versions, the commit."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import numba
import torch

from polykern.errors import UsageError
from polykern.versions import recorded
from polykern_benches._board import Board
from polykern_benches._memory import total

PACKAGES = ("polykern", "torch", "numpy", "numba", "triton")
SOURCES = ("kernels", "polykern", "benches/*.py")
VECTOR = ("avx2", "avx512f", "avx512_vpopcntdq", "asimd", "sve")


def environment(device: str, board: Board | None = None) -> dict[str, Any]:
    """The processor, its threads, and with `device` "cuda" the GPU as well."""
    about = {key.strip(): value.strip() for key, _, value in (row.partition(":") for row in _cpuinfo())}
    flags = about.get("flags", about.get("Features", "")).split()
    found: dict[str, Any] = {
        **recorded(*PACKAGES),
        "system": platform.system(),
        "cpu": about.get("model name", platform.processor()) or platform.machine(),
        "cpu_mhz": float(about["cpu MHz"]) if "cpu MHz" in about else None,
        "vector": sorted(set(VECTOR) & set(flags)),
        "cores": os.cpu_count(),
        "threads": numba.get_num_threads(),
        "memory": total(),
        "gpu": None,
    }
    if device == "cuda":
        found["gpu"] = _gpu(board)
    return found


def _gpu(board: Board | None) -> dict[str, Any]:
    of = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "name": of.name,
        "sm": f"{of.major}{of.minor}",
        "processors": of.multi_processor_count,
        "memory": of.total_memory,
        "cuda": torch.version.cuda,
        **(board.limits() if board is not None else {}),
    }


def threads(wanted: int | None) -> int:
    """Compute with this many threads, numba's number by default, in numba and torch alike."""
    if wanted is not None:
        try:
            numba.set_num_threads(wanted)
        except ValueError as error:
            fix = "NUMBA_NUM_THREADS allows more"
            raise UsageError(f"numba does not compute with {wanted} threads", why=str(error), fix=fix) from error
    torch.set_num_threads(numba.get_num_threads())
    return int(numba.get_num_threads())


def commit() -> str | None:
    """The commit of the working tree, "+" behind it where the sources differ from it; None outside of one."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain", *SOURCES], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if changed.stdout else "")


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().split("\n\n")[0].splitlines() if path.exists() else []
