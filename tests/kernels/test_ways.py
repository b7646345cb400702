"""The ways of the tests: views stay views on another device, and a kernel's own test is no reason to skip."""

import pytest
import torch

from tests.kernels.conftest import Way, require


@pytest.mark.parametrize("rows", [6, 0])
def test_a_view_is_placed_as_it_lies_in_memory(rows: int) -> None:
    x = torch.zeros(rows, 10)[::2, 1::3].T
    placed = Way("triton", "meta").place([x, 3])[0]
    assert placed.device.type == "meta"
    assert (placed.shape, placed.stride(), placed.storage_offset()) == (x.shape, x.stride(), x.storage_offset())


def test_a_failed_self_test_is_a_failure() -> None:
    require(None)
    with pytest.raises(pytest.skip.Exception, match="needs CUDA tensors"):
        require("needs CUDA tensors, got cpu")
    with pytest.raises(pytest.fail.Exception, match="wrong distances"):
        require("its self-test failed on cuda: wrong distances of 131 x 270 codes of 33 words")
