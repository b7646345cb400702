"""Matrix products of torch as ceilings: the rate of a product whose rows are right."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

CHECKED = 4  # rows that are computed again
_WHOLE: Any = torch  # its product of int8 is not in its public names
KINDS = {
    "int8_gemm": torch.int8,
    "fp16_gemm": torch.float16,
    "bf16_gemm": torch.bfloat16,
    "float32_gemm": torch.float32,
    "float64_gemm": torch.float64,
}


class WrongResult(RuntimeError):
    """What a run computed is not right, so its time is no rate."""


def product(name: str, size: int, device: str) -> tuple[Callable[[], Tensor], Callable[[Tensor], None]]:
    """A product of two random square matrices, and a judge of its result that raises WrongResult."""
    generator = torch.Generator(device).manual_seed(0)
    kind = KINDS[name]
    shape = (size, size)
    if kind == torch.int8:
        a, b = (torch.randint(-128, 128, shape, generator=generator, device=device).to(kind) for _ in range(2))
    else:
        a, b = (torch.randn(shape, generator=generator, device=device).to(kind) for _ in range(2))

    def run() -> Tensor:
        return _WHOLE._int_mm(a, b) if kind == torch.int8 else a @ b

    def judge(out: Tensor) -> None:
        truth = a[-CHECKED:].double() @ b.double()
        error = float((out[-CHECKED:].double() - truth).norm() / truth.norm())
        allowed = {torch.int8: 0.0, torch.float16: 2e-3, torch.bfloat16: 1e-2, torch.float32: 1e-5}.get(kind, 1e-13)
        if not error <= allowed:
            raise WrongResult(f"the product is wrong by {error:.1e}")

    return run, judge
