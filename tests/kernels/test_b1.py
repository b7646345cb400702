"""b1: kernels of the 1-bit tensor cores, run as text over their layouts or on a GPU, equal the reference."""

import importlib
from functools import partial
from types import ModuleType
from typing import Any

import pytest
import torch

from polykern_kernels import BackendError, device, foreign, hamming, neighbours
from tests.kernels import gluon
from tests.kernels.conftest import Way, require, triton_way
from tests.kernels.test_foreign import bounds, question
from tests.kernels.test_hamming import codes
from tests.kernels.test_neighbours import note, packed

KERNELS = {
    "b1_hamming": ("b1_pairwise_kernel",),
    "b1_neighbours": ("b1_minima_kernel", "b1_within_kernel"),
    "b1_foreign": ("b1_foreign_kernel",),
}


@pytest.fixture(params=["interpreter", pytest.param("cuda", marks=pytest.mark.gpu)])
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Way:
    """The kernels' text on numpy, the popcount kernels beside them in Triton's interpreter; and a GPU."""
    if triton_way(request.param).device == "cuda":
        require(device.b1_objection(torch.zeros((1, 1), dtype=torch.int32, device="cuda")))
        return Way("b1", "cuda")
    for family, kernels in KERNELS.items():
        for kernel in kernels:
            monkeypatch.setattr(module(family), kernel, gluon.Emulated(getattr(module(family), kernel)))
    monkeypatch.setattr(device, "b1_objection", lambda *args, metric="hamming": None)
    return Way("b1", "cpu")


def module(name: str) -> ModuleType:
    return importlib.import_module(f"polykern_kernels.device.{name}")


# one element, a tile, a ragged one on each side, several lines, more steps than stages, no bits, no rows
PAIRS = [(1, 1, 1), (128, 256, 16), (129, 255, 17), (260, 257, 3), (3, 5, 120), (2, 3, 0), (0, 5, 2)]
NEAREST = [(0, 5, 40, 3), (3, 9, 0, 4), (1, 1, 1, 1), (40, 300, 65, 9), (130, 40, 600, 33)]
# even and odd numbers of squares on the diagonal, ties everywhere at 5 bits, all others as neighbours
AMONG = [(0, 40, 0), (1, 40, 0), (2, 1, 1), (34, 9, 33), (270, 5, 2), (530, 90, 1)]
# rows, words, components: one row, one component, all apart, several tiles with mixed and with pure ones, no bits
FOREIGN = [(1, 1, 1), (9, 2, 1), (65, 1, 65), (300, 17, 3), (600, 2, 2), (5, 0, 3), (0, 2, 1)]


@pytest.mark.parametrize(("n", "m", "words"), PAIRS)
def test_pairwise_equals_reference(cores: Way, n: int, m: int, words: int, rng: torch.Generator) -> None:
    cores.equals_reference(hamming.pairwise, codes(n, words, rng=rng), codes(m, words, rng=rng))


def test_takes_views(cores: Way, rng: torch.Generator) -> None:
    x = codes(6, 10, 16, rng=rng)
    cores.equals_reference(hamming.pairwise, x[0, ::2], x[1].flip(0))
    flat = codes(1000, rng=rng)
    cores.equals_reference(hamming.pairwise, flat[1:321].view(20, 16), flat[:320].view(20, 16))


@pytest.mark.parametrize(("n", "m", "bits", "k"), NEAREST)
def test_nearest_equals_reference(cores: Way, n: int, m: int, bits: int, k: int, rng: torch.Generator) -> None:
    a, b = packed(n, bits, 0.4, rng), packed(m, bits, 0.4, rng)
    cores.equals_reference(neighbours.nearest, a, b, k)
    skip = torch.randint(-1, m, (n,), generator=rng)
    cores.equals_reference(neighbours.nearest, a, b, min(k, m - 1), skip=skip)
    cores.equals_reference(neighbours.mutual, a, b, min(k, n, m))
    cores.equals_reference(neighbours.within, a, b, (-1, 0, 0.45 * bits, bits, float("inf")))


@pytest.mark.parametrize(("n", "bits", "k"), AMONG)
def test_self_nearest_equals_reference(cores: Way, n: int, bits: int, k: int, rng: torch.Generator) -> None:
    cores.equals_reference(neighbours.self_nearest, packed(n, bits, 0.5, rng), k)


def test_chunks_meet_in_pairs(cores: Way, monkeypatch: pytest.MonkeyPatch, rng: torch.Generator) -> None:
    monkeypatch.setattr(module("blocks"), "BUDGET_BYTES", 1)
    words = packed(520, 6, 0.5, rng)
    told: list[tuple[int, int]] = []
    cores.equals_reference(neighbours.self_nearest, words, 1, progress=partial(note, told))
    assert told[:6] == [(done, 6) for done in range(1, 7)]
    cores.equals_reference(neighbours.nearest, words[:140], words[100:200], 2)
    cores.equals_reference(neighbours.mutual, words[:140], words[100:], 2)


def test_half_of_the_tiles_are_left_out(cores: Way, rng: torch.Generator) -> None:
    if cores.device != "cpu":
        pytest.skip("programs are counted where they are emulated")
    kernel, blocks = module("b1_neighbours"), module("blocks")
    words = module("b1").codes(packed(1000, 9, 0.5, rng))
    blocks.among(kernel._launch, words, words, torch.int16)
    assert kernel.b1_minima_kernel.programs == 2 * (4 * 5 // 2)  # of 8 x 4 tiles


@pytest.mark.parametrize("words", [1007, 1008, 1024])
def test_minima_are_as_wide_as_distances(cores: Way, words: int, rng: torch.Generator) -> None:
    x = codes(40, words, rng=rng)
    x[7], x[8] = 0, -1  # as far apart as can be
    cores.equals_reference(neighbours.nearest, x[6:9], x, 39)


@pytest.mark.parametrize(("n", "words", "components"), FOREIGN)
def test_foreign_equals_reference(cores: Way, n: int, words: int, components: int, rng: torch.Generator) -> None:
    asked = question(n, words, components, "hamming", rng)
    cores.equals_reference(foreign.nearest, *asked)
    cores.equals_reference(foreign.nearest, *asked, bound=bounds(asked[1], asked[2], rng))
    beyond = torch.where(asked[2] % 3 == 0, 2**31 - 1, asked[2])  # rows without a core distance
    cores.equals_reference(foreign.nearest, asked[0], asked[1], beyond, asked[3])


def test_rows_go_through_a_grid_in_chunks(
    cores: Way, monkeypatch: pytest.MonkeyPatch, rng: torch.Generator
) -> None:
    monkeypatch.setattr(module("b1"), "MOST_PROGRAMS", 2)
    asked = question(300, 2, 4, "hamming", rng)
    cores.equals_reference(foreign.nearest, *asked)
    cores.equals_reference(neighbours.within, asked[0], asked[0][:9], [3, 9])


def test_lines_of_tiles_share_columns() -> None:
    pytest.importorskip("triton")
    copies = gluon.Copies()
    for lines, lanes in ((1, 1), (5, 3), (16, 2), (35, 4)):
        met = [
            gluon._bound(module("b1").place, gluon._language(program, copies), copies)(lines, lanes)
            for program in range(lines * lanes)
        ]
        places = [(int(x), int(y)) for x, y in met]
        assert sorted(places) == [(x, y) for x in range(lines) for y in range(lanes)]
        assert {y for _, y in places[: min(lines, 16)]} == {0}


@pytest.mark.slow
def test_a_tile_that_counts_wrongly_is_refused(cores: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    b1_hamming: Any = module("b1_hamming")
    assert b1_hamming.failure.__wrapped__(torch.device(cores.device)) is None
    right = b1_hamming.pairwise
    monkeypatch.setattr(b1_hamming, "pairwise", lambda a, b: right(a, b) + (len(a) == 131))
    reason = b1_hamming.failure.__wrapped__(torch.device(cores.device))
    assert reason == f"its self-test failed on {cores.device}: wrong distances of 131 x 270 codes of 33 words"
    monkeypatch.setattr(b1_hamming, "pairwise", lambda a, b: [][0])
    assert "IndexError: list index out of range" in b1_hamming.failure.__wrapped__(torch.device(cores.device))


def test_the_refusal_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    a = torch.zeros((2, 3), dtype=torch.int32)
    with pytest.raises(BackendError, match=r"\n  b1: it orders whole distances, jaccard distances are fractions$"):
        neighbours.nearest(a, a, 1, metric="jaccard", backend="b1")
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(BackendError, match=r"\n  b1: its assembly does not run in Triton's interpreter$"):
        hamming.pairwise(a, a, backend="b1")
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(BackendError, match=r"\n  b1: needs CUDA tensors \(or TRITON_INTERPRET=1\), got cpu$"):
        hamming.pairwise(a, a, backend="b1")


@pytest.mark.parametrize(("found", "reason"), [((7, 5), "has 7.5"), ((10, 0), "has 10.0"), ((9, 0), None)])
def test_needs_tensor_cores_of_one_bit(
    found: tuple[int, int], reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton")
    monkeypatch.setattr(device, "objection", lambda *args: None)
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda at: found)
    monkeypatch.setattr(module("b1_hamming"), "failure", lambda at: None)
    got = device.b1_objection(torch.zeros((2, 3), dtype=torch.int32))
    assert got is None if reason is None else got is not None and got.endswith(reason)


@pytest.mark.usefixtures("unnamed_backend")
def test_the_first_choice_steps_back_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    a = torch.zeros((2, 3), dtype=torch.int32)
    ways = [impl.name for impl in hamming.IMPLS["pairwise"]]
    assert ways == ["b1", "dot", "triton", "cpu", "reference"]
    monkeypatch.setattr(device, "b1_objection", lambda *args, metric="hamming": "its self-test failed")
    assert torch.equal(hamming.pairwise(a, a), torch.zeros((2, 2), dtype=torch.int32))
    with pytest.raises(BackendError, match=r"b1: its self-test failed$"):
        hamming.pairwise(a, a, backend="b1")
