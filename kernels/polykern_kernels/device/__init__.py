"""GPU code. Nothing here is imported until a launcher needs it."""

import importlib
import importlib.util
import os

import torch
from torch import Tensor

TILE_WORDS = 1 << 21  # of a code, so that 2**28 is above every distance


def objection(*args: Tensor, **kind: str) -> str | None:
    """Why Triton cannot run on these tensors, or None."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed (pip install 'polykern[gpu]')"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return None
    elsewhere = next((a for a in args if a.device.type != "cuda"), None)
    if elsewhere is not None:
        return f"needs CUDA tensors (or TRITON_INTERPRET=1), got {elsewhere.device}"
    return None


def dot_objection(*args: Tensor, metric: str = "hamming") -> str | None:
    """Why products of bytes should not count these codes, or None."""
    if metric != "hamming":
        return f"it orders whole distances, {metric} distances are fractions"
    reason = objection(*args)
    if reason is not None:
        return reason
    if args[0].shape[1] > TILE_WORDS:
        return f"needs codes of at most {32 * TILE_WORDS} bits, got {32 * args[0].shape[1]}"
    if args[0].device.type == "cpu":
        return None
    if torch.version.hip is not None:
        return "needs an NVIDIA device"
    major, _ = torch.cuda.get_device_capability(args[0].device)
    if major < 10:
        return f"stands in for 1-bit tensor cores from compute capability 10.0 on, {args[0].device} has {major}.x"
    return None


def b1_objection(*args: Tensor, metric: str = "hamming") -> str | None:
    """Why the 1-bit tensor cores cannot count these codes, or None. The first call on a device tests them."""
    if metric != "hamming":
        return f"it orders whole distances, {metric} distances are fractions"
    reason = objection(*args)
    if reason is not None:
        return reason
    if os.environ.get("TRITON_INTERPRET") == "1":
        return "its assembly does not run in Triton's interpreter"
    if torch.version.hip is not None:
        return "needs an NVIDIA device"
    device = args[0].device
    major, minor = torch.cuda.get_device_capability(device)
    if not (8, 0) <= (major, minor) <= (9, 0):
        return f"needs 1-bit tensor cores (compute capability 8.0 to 9.0), {device} has {major}.{minor}"
    if args[0].shape[1] > TILE_WORDS:
        return f"needs codes of at most {32 * TILE_WORDS} bits, got {32 * args[0].shape[1]}"
    if importlib.util.find_spec("triton.experimental.gluon") is None:
        return "this Triton has no Gluon (pip install 'polykern[gpu]')"
    failure: str | None = importlib.import_module("polykern_kernels.device.b1_hamming").failure(device)
    return failure
