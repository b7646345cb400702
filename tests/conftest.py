"""Fixtures every test shares."""

import os
from collections.abc import Callable, Iterator

import pytest
import torch

# Triton reads this when it is imported: without a GPU its kernels run in the interpreter, on CPU tensors
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# the command line counts what its process holds already, and this one has run other tests before
os.environ["POLYKERN_MEMORY_BUDGET"] = "32GiB"

POISON = b"\xa5"  # 0xA5A5A5A5: no count a kernel gives


@pytest.fixture(autouse=True, scope="session")
def poisoned_memory() -> Iterator[None]:
    """torch.empty hands out rubbish, so a kernel that skips an element is caught."""

    def poisoned(real: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def empty(*args: object, **kwargs: object) -> torch.Tensor:
            out = real(*args, **kwargs)
            if out.is_floating_point() or out.is_complex():
                return out.fill_(torch.nan)
            rubbish = POISON * out.element_size()
            return out.fill_(int.from_bytes(rubbish, "little", signed=out.dtype.is_signed))

        return empty

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "empty", poisoned(torch.empty))
        patch.setattr(torch, "empty_like", poisoned(torch.empty_like))
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: where files are shared out among processes, none waits for a long one."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def unnamed_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing names a backend: for tests of what is chosen then, whatever the suite runs on (tests/parity.py)."""
    monkeypatch.delenv("POLYKERN_BACKEND", raising=False)


@pytest.fixture
def rng() -> torch.Generator:
    """Random numbers that are the same in every run."""
    return torch.Generator().manual_seed(0)
