"""GPU code. Nothing here is imported until a launcher needs it."""

import importlib.util
import os

from torch import Tensor


def objection(*args: Tensor) -> str | None:
    """Why Triton cannot run on these tensors, or None."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed (pip install 'polykern[gpu]')"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return None
    elsewhere = next((a for a in args if a.device.type != "cuda"), None)
    if elsewhere is not None:
        return f"needs CUDA tensors (or TRITON_INTERPRET=1), got {elsewhere.device}"
    return None
