"""euclid: every backend gives the defined distances and brute force's lists, whatever the data do to the filter."""

import functools
import math
from collections.abc import Callable

import pytest
import torch

from polykern_kernels import euclid

Rows = Callable[[torch.Generator], torch.Tensor]


def clusters(rng: torch.Generator) -> torch.Tensor:
    """Tight clusters far from each other: within one, float32 products see nothing."""
    centres = torch.randn((5, 20), generator=rng, dtype=torch.float64)
    spread = 1e-4 * torch.randn((90, 20), generator=rng, dtype=torch.float64)
    return centres[torch.randint(0, 5, (90,), generator=rng)] + spread


def opposite(rng: torch.Generator) -> torch.Tensor:
    """Two tight clusters whose products round all one way: their error is far above that of a single rounding."""
    side = torch.where(torch.arange(24) < 12, 1.0, -1.0).double()[:, None]
    return side * (0.7 + 1e-6 * torch.randn((24, 512), generator=rng, dtype=torch.float64))


WORLDS: dict[str, Rows] = {
    "normal": lambda rng: torch.randn((70, 37), generator=rng),
    "one column": lambda rng: torch.randn((40, 1), generator=rng),
    "float64": lambda rng: torch.randn((50, 16), generator=rng, dtype=torch.float64),
    "common offset": lambda rng: torch.randn((60, 9), generator=rng) + 1e6,
    "common offset in float64": lambda rng: 1e-3 * torch.randn((60, 9), generator=rng).double() + 1e9,
    "tight clusters": clusters,
    "tight clusters in float32": lambda rng: clusters(rng).float(),
    "opposite clusters": opposite,
    "lattice": lambda rng: torch.cartesian_prod(*[torch.arange(4.0)] * 3)[torch.randperm(64, generator=rng)],
    "duplicates": lambda rng: torch.randint(0, 2, (60, 4), generator=rng).float(),
    "all equal": lambda rng: torch.full((20, 3), 7.25),
    "no columns": lambda rng: torch.zeros((5, 0)),
    "huge": lambda rng: 1e37 * torch.randn((30, 5), generator=rng),
    "tiny": lambda rng: 1e-40 * torch.randn((30, 5), generator=rng),
    "huge in float64": lambda rng: 1e148 * torch.randn((30, 5), generator=rng).double(),
    "tiny in float64": lambda rng: 1e-128 * torch.randn((30, 5), generator=rng).double(),
    "one far away": lambda rng: torch.cat([torch.randn((40, 8), generator=rng), torch.full((1, 8), 1e8)]),
}
BACKENDS = [
    pytest.param(("cpu", "cpu"), id="cpu"),
    pytest.param(("torch", "cpu"), id="torch"),
    pytest.param(("torch", "cuda"), id="cuda", marks=pytest.mark.gpu),
]


@pytest.fixture(params=sorted(WORLDS))
def x(request: pytest.FixtureRequest, rng: torch.Generator) -> torch.Tensor:
    return WORLDS[request.param](rng)


@pytest.fixture(params=[None, torch.float32, torch.float64], ids=["chosen", "float32", "float64"])
def precision(request: pytest.FixtureRequest) -> torch.dtype | None:
    given_dtype: torch.dtype | None = request.param
    return given_dtype


@pytest.fixture(params=BACKENDS)
def where(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A backend, and the device its tensors are on."""
    if request.param[1] == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    chosen: tuple[str, str] = request.param
    return chosen


def truth(x: torch.Tensor) -> torch.Tensor:
    """float64 (n, n): the defined distances, number by number."""
    return _truth(tuple(map(tuple, x.double().tolist()))).clone()


@functools.cache
def _truth(wide: tuple[tuple[float, ...], ...]) -> torch.Tensor:
    out = torch.zeros((len(wide), len(wide)), dtype=torch.float64)
    for i, a in enumerate(wide):
        for j, b in enumerate(wide[: i + 1]):
            lanes = [0.0] * 16
            for c, (u, v) in enumerate(zip(a, b, strict=True)):
                lanes[c % 16] += (u - v) * (u - v)
            while len(lanes) > 1:
                half = len(lanes) // 2
                lanes = [lanes[k] + lanes[k + half] for k in range(half)]
            out[i, j] = out[j, i] = math.sqrt(lanes[0])
    return out


def same(got: tuple[torch.Tensor, torch.Tensor], want: tuple[torch.Tensor, torch.Tensor]) -> None:
    for mine, right in zip(got, want, strict=True):
        assert torch.equal(mine.cpu(), right)


def test_distances_are_the_defined_ones(x: torch.Tensor, where: tuple[str, str]) -> None:
    rows = euclid.prepare(x.to(where[1]))
    i, j = (t.flatten() for t in torch.meshgrid(*[torch.arange(len(x))] * 2, indexing="ij"))
    got = euclid.pairs(rows, i.to(where[1]), j.to(where[1]), backend=where[0])
    assert torch.equal(got.cpu().view(len(x), len(x)), truth(x))


@pytest.mark.parametrize("k", [0, 1, 4])
def test_nearest_equals_brute_force(
    x: torch.Tensor, k: int, precision: torch.dtype | None, where: tuple[str, str]
) -> None:
    d = truth(x).fill_diagonal_(math.inf).sort(dim=1, stable=True)
    rows = euclid.prepare(x.to(where[1]), precision)
    same(euclid.nearest(rows, k, backend=where[0]), (d.values[:, :k], d.indices[:, :k]))


@pytest.mark.parametrize("bounded", [False, True])
def test_foreign_equals_brute_force(
    x: torch.Tensor, bounded: bool, precision: torch.dtype | None, where: tuple[str, str], rng: torch.Generator
) -> None:
    n, d = len(x), truth(x)
    components = torch.randint(0, 3, (n,), generator=rng) * 5
    cores = d.sort(1).values[:, min(3, n - 1)] * (1 + torch.randint(0, 2, (n,), generator=rng))
    asking = torch.randint(0, n, (n // 2 + 1,), generator=rng)
    w = torch.maximum(torch.maximum(d, cores), cores[:, None])
    w[components[:, None] == components] = math.inf
    least = w[asking].min(1)
    bound = least.values.roll(1) if bounded else torch.full((len(asking),), math.inf, dtype=torch.float64)
    found = least.values < bound
    want = torch.where(found, least.values, bound), torch.where(found, least.indices, -1)
    device = where[1]
    given_bound = bound.to(device) if bounded else None
    rows = euclid.prepare(x.to(device), precision)
    asked, core, component = (t.to(device) for t in (asking, cores, components))
    same(euclid.foreign(rows, asked, core, component, given_bound, backend=where[0]), want)


@pytest.mark.parametrize("sizes", [(1, 1), (7, 3), (16, 64)])
def test_tiles_do_not_matter(sizes: tuple[int, int], rng: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randint(0, 3, (67, 5), generator=rng).float()  # many ties
    components = torch.randint(0, 4, (67,), generator=rng)
    rows, asking = euclid.prepare(x), torch.arange(67)
    near = euclid.nearest(rows, 6, backend="reference")
    edges = euclid.foreign(rows, asking, near[0][:, 5].clone(), components, backend="reference")
    monkeypatch.setattr(euclid, "_TILE", sizes[0])
    monkeypatch.setattr(euclid, "_ASKING", sizes[1])
    same(euclid.nearest(rows, 6, backend="cpu"), near)
    same(euclid.foreign(rows, asking, near[0][:, 5].clone(), components, backend="cpu"), edges)
    from polykern_kernels.device import euclid as device

    monkeypatch.setattr(device, "PRODUCTS", 67 * sizes[0])
    monkeypatch.setattr(device, "PAIRS", sizes[1])
    same(euclid.nearest(rows, 6, backend="torch"), near)
    same(euclid.foreign(rows, asking, near[0][:, 5].clone(), components, backend="torch"), edges)


def test_the_limit_lets_no_near_pair_out(x: torch.Tensor, precision: torch.dtype | None) -> None:
    """Every pair passes a filter whose limit is its own distance."""
    rows, d = euclid.prepare(x, precision), truth(x)
    low = rows.low - 2 * (rows.short @ rows.short.T)
    for j in range(len(x)):
        assert (low[:, j] <= rows.limit(d[:, j], torch.arange(len(x)))).all()


def test_a_filter_that_sees_nothing_is_taken_in_float64(rng: torch.Generator) -> None:
    coarse = torch.randn((300, 8), generator=rng, dtype=torch.float64)
    coarse[1:] = coarse[0] + 1e-5 * coarse[1:]
    coarse[0] = 50.0  # now the rest are one point to float32
    assert euclid.prepare(coarse).short.dtype == torch.float64
    assert euclid.prepare(torch.randn((300, 8), generator=rng).double()).short.dtype == torch.float32


@pytest.mark.parametrize("n", [0, 6])
def test_nobody_asks(n: int, where: tuple[str, str]) -> None:
    rows = euclid.prepare(torch.ones(n, 3, device=where[1]))
    none, cores = torch.zeros(0, dtype=torch.int64), torch.zeros(n, dtype=torch.float64)
    given = (x.to(where[1]) for x in (none, cores, torch.arange(n)))
    weights, points = euclid.foreign(rows, *given, backend=where[0])
    assert (weights.shape, points.shape, points.dtype) == ((0,), (0,), torch.int64)


@pytest.mark.usefixtures("unnamed_backend")  # the reference goes by rows, not by pairs of tiles
def test_progress_reaches_its_end(rng: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(euclid, "_TILE", 4)
    said: list[tuple[int, int]] = []
    euclid.nearest(euclid.prepare(torch.randn((11, 2), generator=rng)), 2, progress=lambda *of: said.append(of))
    assert said == [(k, 6) for k in range(1, 7)]


def test_messages(rng: torch.Generator) -> None:
    x = torch.randn((6, 3), generator=rng)
    with pytest.raises(ValueError, match=r"prepare: x must be float32\|float64 \(n, d\), got float16\[6, 3\]@cpu"):
        euclid.prepare(x.half())
    with pytest.raises(ValueError, match=r"prepare: x must be finite"):
        euclid.prepare(torch.tensor([[math.nan]]))
    with pytest.raises(ValueError, match=r"reach .*e\+160, whose square float64 does not hold"):
        euclid.prepare(1e160 * x.double())
    with pytest.raises(ValueError, match=r"reach .*e-140, whose square float64 does not hold"):
        euclid.prepare(1e-140 * x.double())
    with pytest.raises(ValueError, match=r"dtype must be torch.float32 or torch.float64, got torch.float16"):
        euclid.prepare(x, torch.float16)
    rows = euclid.prepare(x)
    with pytest.raises(ValueError, match=r"nearest: k must be 0 ... 5, got 6"):
        euclid.nearest(rows, 6)
    with pytest.raises(ValueError, match=r"pairs: j must be rows of 6, got int64\[1\]@cpu"):
        euclid.pairs(rows, torch.tensor([0]), torch.tensor([6]))
    with pytest.raises(ValueError, match=r"pairs: j must be int64 \(1\), got int64\[2\]@cpu"):
        euclid.pairs(rows, torch.tensor([0]), torch.tensor([1, 2]))
    with pytest.raises(ValueError, match=r"foreign: cores must be float64\[6\], got float32\[6\]@cpu"):
        euclid.foreign(rows, torch.tensor([0]), torch.zeros(6), torch.arange(6))


def test_cost_counts_compulsory_work() -> None:
    assert euclid.cost(10, 4, 3).bytes == 10 * (16 + 48)
    assert euclid.cost(10, 4, 3).flops == 4 * 45
    assert euclid.cost_foreign(3, 10, 4).bytes == 10 * (16 + 16) + 3 * 32
    assert euclid.cost_foreign(3, 10, 4).flops == 3 * 10 * 4
