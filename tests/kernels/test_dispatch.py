"""Choosing who runs an operation: whoever is asked, and whoever runs, has the tensors' device current."""

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from polykern_kernels import program
from polykern_kernels._dispatch import Impl, choose, on


@pytest.fixture
def current(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """The devices that were made current and not left yet."""
    inside: list[torch.device] = []

    class Device:
        def __init__(self, device: torch.device) -> None:
            self.device = device

        def __enter__(self) -> None:
            inside.append(self.device)

        def __exit__(self, *error: object) -> None:
            inside.pop()

    monkeypatch.setattr(torch.cuda, "device", Device)
    return inside


def elsewhere() -> torch.Tensor:
    """A tensor on a second device that is not here."""
    with FakeTensorMode():
        return torch.empty((2, 2), dtype=torch.int32, device="cuda:1")


def test_the_device_of_the_tensors_is_current(current: list[torch.device]) -> None:
    seen: list[list[torch.device]] = []

    def look(*args: Any) -> None:
        seen.append(list(current))

    x = elsewhere()
    impl = Impl("triton", look, look)
    choose("op", [impl], None, x).run([x], 3)  # a launcher may take its tensors in a list, or in a dataclass
    assert seen == [[x.device], [x.device]]
    assert not current
    choose("op", [impl], None, torch.zeros(1)).run()
    assert seen[2:] == [[], []]


def test_whatever_goes_wrong_leaves_the_device(current: list[torch.device]) -> None:
    def run(*args: Any) -> None:
        raise RuntimeError

    x = elsewhere()
    with pytest.raises(RuntimeError):
        choose("op", [Impl("triton", run, lambda *args: None)], None, x).run(x)
    assert not current


def test_the_self_test_of_tensor_cores_is_launched_where_it_is_asked_about(
    current: list[torch.device], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton")
    from polykern_kernels.device import b1_hamming, hamming

    at = torch.device("cuda", 1)
    monkeypatch.setattr(torch.Tensor, "to", lambda x, device: x)
    seen: list[list[torch.device]] = []

    def distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        seen.append(list(current))
        return torch.zeros((len(a), len(b)), dtype=torch.int32)

    monkeypatch.setattr(b1_hamming, "pairwise", distances)
    monkeypatch.setattr(hamming, "pairwise", distances)
    assert b1_hamming.failure.__wrapped__(at) is None
    assert seen == [[at]] * 2 * len(b1_hamming.TESTED)


@pytest.mark.parametrize("kind", ["cpu", "meta"])
def test_nothing_is_made_current_for_other_devices(kind: str, current: list[torch.device]) -> None:
    with on(torch.device(kind)):
        assert not current


def test_programs_go_the_common_way() -> None:
    assert [impl.name for impl in program.IMPLS] == ["triton", "cpu", "reference"]
