"""The ways an operation can run on this machine."""

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pytest
import torch


@dataclass(frozen=True)
class Way:
    """A backend by name, and the device its tensors are on."""

    backend: str
    device: str

    def equals_reference(self, operation: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """The operation on this device gives the reference's result, bit for bit."""
        moved = [self.place(x) for x in args]
        got = operation(*moved, **{k: self.place(x) for k, x in kwargs.items()}, backend=self.backend)
        want = operation(*args, **kwargs, backend="reference")
        many = isinstance(want, tuple)
        for mine, truth in zip(got if many else (got,), want if many else (want,), strict=True):
            assert mine.dtype == truth.dtype
            assert mine.device.type == self.device
            assert torch.equal(mine.cpu(), truth)

    def place(self, x: Any) -> Any:
        """x on this device, as it lies in memory: a tensor, a list of tensors, or something else as it is."""
        if isinstance(x, list):
            return [self.place(y) for y in x]
        if not isinstance(x, torch.Tensor) or x.device.type == self.device:
            return x
        whole = x.as_strided((x.untyped_storage().nbytes() // x.element_size(),), (1,), 0)
        return whole.to(self.device).as_strided(x.shape, x.stride(), x.storage_offset())


@pytest.fixture(params=["cpu", "interpreter", pytest.param("cuda", marks=pytest.mark.gpu)])
def way(request: pytest.FixtureRequest) -> Way:
    """numba, Triton's interpreter, and Triton on a GPU."""
    return Way("cpu", "cpu") if request.param == "cpu" else triton_way(request.param)


def triton_way(where: str) -> Way:
    """Triton in its interpreter or on a GPU, or a skip that says why not."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed")
    if where == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        return Way("triton", "cuda")
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("TRITON_INTERPRET is not 1")
    if version("triton").startswith("3.6."):
        pytest.skip("the interpreter of Triton 3.6 does not know NumPy 2.4")
    return Way("triton", "cpu")


def require(objection: str | None) -> None:
    """Skip for an objection; a kernel that fails the test which it makes of itself fails here too."""
    if objection is None:
        return
    if "its self-test failed" in objection:
        pytest.fail(objection)
    pytest.skip(objection)
