"""dot: products of bytes give the distances, lists and edges of the reference; who may use them."""

import importlib
from functools import partial
from types import ModuleType
from typing import Any

import pytest
import torch

from polykern_kernels import BackendError, device, foreign, hamming, neighbours
from tests.kernels.conftest import Way, triton_way
from tests.kernels.test_b1 import FOREIGN, PAIRS
from tests.kernels.test_foreign import bounds, question
from tests.kernels.test_hamming import codes
from tests.kernels.test_neighbours import note, packed

# no rows, no bits, one element, several tiles of columns, two lines of tiles
NEAREST = [(0, 5, 40, 3), (3, 9, 0, 4), (1, 1, 1, 1), (9, 300, 65, 7), (130, 40, 600, 1)]
# even and odd numbers of squares on the diagonal, ties everywhere at 5 bits, all others as neighbours
AMONG = [
    (0, 40, 0),
    (1, 40, 0),
    (2, 1, 1),
    (34, 9, 33),
    (270, 5, 1),
    pytest.param(514, 90, 1, marks=pytest.mark.slow),
]


@pytest.fixture(params=["interpreter", pytest.param("cuda", marks=pytest.mark.gpu)])
def products(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Way:
    """Triton's interpreter, or a GPU: any, although another way may be faster there."""
    where = triton_way(request.param).device
    if where == "cuda":
        monkeypatch.setattr(device, "dot_objection", lambda *args, metric="hamming": None)
    return Way("dot", where)


def module(name: str) -> ModuleType:
    return importlib.import_module(f"polykern_kernels.device.{name}")


@pytest.mark.parametrize(("n", "m", "words"), PAIRS)
def test_pairwise_equals_reference(products: Way, n: int, m: int, words: int, rng: torch.Generator) -> None:
    products.equals_reference(hamming.pairwise, codes(n, words, rng=rng), codes(m, words, rng=rng))


def test_long_codes_are_added_up(products: Way, monkeypatch: pytest.MonkeyPatch, rng: torch.Generator) -> None:
    monkeypatch.setattr(module("dot_hamming"), "MOST_WORDS", 3)
    products.equals_reference(hamming.pairwise, codes(5, 7, rng=rng), codes(9, 7, rng=rng))


def test_codes_of_ones_and_of_zeros(products: Way) -> None:
    ends = torch.stack([torch.zeros(40, dtype=torch.int32), torch.full((40,), -1, dtype=torch.int32)])
    ends = products.place(ends)
    assert hamming.pairwise(ends, ends, backend="dot").tolist() == [[0, 1280], [1280, 0]]


def test_takes_views(products: Way, rng: torch.Generator) -> None:
    x = codes(6, 10, 16, rng=rng)
    products.equals_reference(hamming.pairwise, x[0, ::2], x[1].flip(0))
    products.equals_reference(neighbours.self_nearest, x[:, :, 2].t(), 3)
    products.equals_reference(hamming.pairwise, x[0].t(), x[1].t())
    flat = codes(1000, rng=rng)
    products.equals_reference(neighbours.nearest, flat[1:321].view(20, 16), flat[:320].view(20, 16), 4)


@pytest.mark.parametrize(("n", "m", "bits", "k"), NEAREST)
def test_nearest_equals_reference(products: Way, n: int, m: int, bits: int, k: int, rng: torch.Generator) -> None:
    a, b = packed(n, bits, 0.4, rng), packed(m, bits, 0.4, rng)
    products.equals_reference(neighbours.nearest, a, b, k)
    skip = torch.randint(-1, m, (n,), generator=rng)
    products.equals_reference(neighbours.nearest, a, b, min(k, m - 1), skip=skip)
    products.equals_reference(neighbours.mutual, a, b, min(k, n, m))
    products.equals_reference(neighbours.within, a, b, (-1, 0, 0.45 * bits, bits, float("inf")))


@pytest.mark.parametrize(("n", "bits", "k"), AMONG)
def test_self_nearest_equals_reference(products: Way, n: int, bits: int, k: int, rng: torch.Generator) -> None:
    products.equals_reference(neighbours.self_nearest, packed(n, bits, 0.5, rng), k)


@pytest.mark.parametrize("words", [1023, 1024])
def test_minima_are_as_wide_as_distances(products: Way, words: int, rng: torch.Generator) -> None:
    x = codes(12, words, rng=rng)
    x[7], x[8] = 0, -1  # as far apart as can be
    products.equals_reference(neighbours.nearest, x[6:9], x, 11)


@pytest.mark.parametrize(("n", "words", "components"), FOREIGN)
def test_foreign_equals_reference(products: Way, n: int, words: int, components: int, rng: torch.Generator) -> None:
    asked = question(n, words, components, "hamming", rng)
    products.equals_reference(foreign.nearest, *asked)
    products.equals_reference(foreign.nearest, *asked, bound=bounds(asked[1], asked[2], rng))
    beyond = torch.where(asked[2] % 3 == 0, 2**31 - 1, asked[2])  # rows without a core distance
    products.equals_reference(foreign.nearest, asked[0], asked[1], beyond, asked[3])


def test_codes_are_spread_out_in_parts(
    products: Way, monkeypatch: pytest.MonkeyPatch, rng: torch.Generator
) -> None:
    monkeypatch.setattr(module("blocks"), "BUDGET_BYTES", 1)
    words = packed(300, 6, 0.5, rng)
    told: list[tuple[int, int]] = []
    products.equals_reference(neighbours.self_nearest, words, 1, progress=partial(note, told))
    assert told[:3] == [(1, 3), (2, 3), (3, 3)]
    skip = torch.randint(-1, 300, (130,), generator=rng)
    products.equals_reference(neighbours.nearest, words[:130], words, 1, skip=skip)
    products.equals_reference(neighbours.within, words[:270], words, [1, 3])
    products.equals_reference(hamming.pairwise, words[:270], words)
    products.equals_reference(foreign.nearest, *question(400, 2, 4, "hamming", rng))


def test_parts_keep_to_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    dot = module("dot")
    assert dot.tiles(*(x.stop - x.start for x in dot.parts(1 << 26, 1)[:2])) < 2**31  # of a grid
    monkeypatch.setattr(module("blocks"), "BUDGET_BYTES", 1 << 20)
    parts = dot.parts(1000, 40)
    assert [(x.start, x.stop) for x in parts] == [(0, 256), (256, 512), (512, 768), (768, 1000)]
    assert dot.parts(1000, 4, 600)[0] == slice(0, 512)
    assert dot.parts(0, 4) == []


def test_more_lines_of_tiles_than_go_together(products: Way, rng: torch.Generator) -> None:
    a, b = codes(2100, 1, rng=rng), codes(300, 1, rng=rng)
    got = hamming.pairwise(products.place(a), products.place(b), backend="dot")
    assert torch.equal(got.cpu(), hamming.pairwise(a, b, backend="cpu"))


@pytest.mark.parametrize(("capability", "takes"), [((9, 0), False), ((10, 0), True), ((12, 0), True)])
def test_stands_in_where_bits_are_emulated(
    capability: tuple[int, int], takes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "objection", lambda *args, **kind: None)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *args: capability)

    class Placed:
        device = torch.device("cuda", 0)
        shape = (3, 2)

    reason = device.dot_objection(Placed())  # type: ignore[arg-type]
    assert (reason is None) == takes
    if reason is not None:
        assert "from compute capability 10.0 on, cuda:0 has 9.x" in reason


def test_the_refusal_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    a = torch.zeros((2, 3), dtype=torch.int32)
    with pytest.raises(BackendError, match=r"\n  dot: it orders whole distances, jaccard distances are fractions$"):
        neighbours.nearest(a, a, 1, metric="jaccard", backend="dot")
    pytest.importorskip("triton")
    monkeypatch.setattr(device, "TILE_WORDS", 2)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(BackendError, match=r"\n  dot: needs codes of at most 64 bits, got 96$"):
        hamming.pairwise(a, a, backend="dot")


@pytest.mark.parametrize(
    "operation", [hamming.IMPLS["pairwise"], *neighbours.IMPLS.values(), *foreign.IMPLS.values()]
)
def test_comes_behind_tensor_cores_of_one_bit(operation: Any) -> None:
    assert [impl.name for impl in operation] == ["b1", "dot", "triton", "cpu", "reference"]
