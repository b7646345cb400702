"""dot: products of bytes give the distances of the reference; who may use them."""

import pytest
import torch

from polykern_kernels import device, hamming
from tests.kernels.conftest import triton_way


@pytest.fixture(params=["interpreter", pytest.param("cuda", marks=pytest.mark.gpu)])
def place(request: pytest.FixtureRequest) -> str:
    """Where the kernels run; on a GPU they are asked for although another way is faster."""
    return triton_way(request.param).device


def codes(rows: int, words: int, rng: torch.Generator) -> torch.Tensor:
    return torch.randint(-(2**31), 2**31 - 1, (rows, words), dtype=torch.int32, generator=rng)


# one element, a tile less and more one, several tiles, words of a step and a rest, nothing, no bits
SHAPES = [(1, 1, 1), (127, 129, 4), (130, 260, 9), (0, 5, 2), (5, 0, 2), (2, 3, 0)]


@pytest.mark.parametrize(("n", "m", "words"), SHAPES)
def test_distances_equal_reference(place: str, n: int, m: int, words: int, rng: torch.Generator) -> None:
    from polykern_kernels.device import dot

    a, b = codes(n, words, rng), codes(m, words, rng)
    want = hamming.pairwise(a, b, backend="reference")
    assert torch.equal(dot.pairwise(a.to(place), b.to(place)).cpu(), want)


def test_codes_of_ones_and_of_zeros(place: str) -> None:
    from polykern_kernels.device import dot

    ends = torch.stack([torch.zeros(40, dtype=torch.int32), torch.full((40,), -1, dtype=torch.int32)]).to(place)
    assert dot.pairwise(ends, ends).tolist() == [[0, 1280], [1280, 0]]


def test_is_a_backend_by_name(rng: torch.Generator) -> None:
    triton_way("interpreter")
    a, b = codes(3, 2, rng)[:, ::1], codes(9, 5, rng)[::2, 1:3]
    got = hamming.pairwise(a, b, backend="dot")
    assert torch.equal(got, hamming.pairwise(a, b, backend="reference"))


@pytest.mark.parametrize(("capability", "takes"), [((9, 0), False), ((10, 0), True), ((12, 0), True)])
def test_stands_in_where_bits_are_emulated(
    capability: tuple[int, int], takes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "objection", lambda *args, **kind: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *args: capability)

    class Placed:
        device = torch.device("cuda", 0)

    reason = device.dot_objection(Placed())  # type: ignore[arg-type]
    assert (reason is None) == takes
    if reason is not None:
        assert "from compute capability 10.0 on, cuda:0 has 9.x" in reason
