# pyright: reportArgumentType=false
"""The popcount rate of a GPU: popcounts of registers, nothing else."""

from collections.abc import Callable

import torch
import triton
import triton.language as tl

from polykern_kernels.device.hamming import popcount

LANES = 1024  # numbers of a program: eight independent chains a thread


@triton.jit  # type: ignore[untyped-decorator]
def _popcount_kernel(out_ptr, PASSES, LANES: tl.constexpr):  # type: ignore[no-untyped-def]
    lane = tl.arange(0, LANES)
    x = lane
    for _ in range(PASSES):
        x += popcount(x)
    tl.store(out_ptr + tl.program_id(0) * LANES + lane, x)


def popcounts_per_launch(device: str, programs: int, passes: int) -> tuple[Callable[[], None], int]:
    """A launch, and how many 32-bit popcounts it does."""
    out = torch.empty(programs * LANES, dtype=torch.int32, device=device)

    def launch() -> None:
        _popcount_kernel[(programs,)](out, passes, LANES=LANES, num_warps=4)  # pyright: ignore[reportCallIssue]

    return launch, programs * LANES * passes
