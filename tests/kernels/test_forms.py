"""forms: every backend equals the references, and the ranges hold what they promise."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polykern_kernels import forms
from tests.kernels.conftest import Way

SIZES = [(1, 1, 1), (3, 7, 5), (6, 33, 4), (2, 257, 3)]  # tiles, units, most rows a tile
SEEDS = st.integers(0, 10**6)


@dataclass
class World:
    """Forms of several tiles with dyadic or continuous coefficients, a third of them 0; some tiles have no rows."""

    rows: Tensor
    ptr: Tensor
    low: Tensor
    high: Tensor

    def values(self, rng: np.random.Generator) -> Tensor:
        """float64 (tiles, units): the forms at symbols drawn from their intervals, ends included."""
        share = torch.from_numpy(rng.choice([0.0, 1.0, rng.random()], len(self.low)))
        symbol = self.low + share * (self.high - self.low)
        owner = torch.repeat_interleave(torch.arange(len(self.ptr) - 1), self.ptr.diff())
        out = torch.zeros((len(self.ptr) - 1, self.rows.shape[1]), dtype=torch.float64)
        return out.index_add(0, owner, self.rows * symbol[:, None])


def world(seed: int, tiles: int, units: int, most: int, dyadic: bool = False) -> World:
    """A random world; dyadic numbers make every sum exact and ties frequent."""
    rng = np.random.default_rng(seed)
    count = rng.integers(0, most + 1, tiles) if tiles > 1 else np.array([most])
    total = int(count.sum())

    def draw(*shape: int) -> Tensor:
        return torch.from_numpy(rng.integers(-3, 4, shape) / 2 if dyadic else rng.normal(size=shape))

    rows = draw(total, units) * torch.from_numpy(rng.random((total, units)) > 1 / 3)
    ends = torch.stack([draw(total), draw(total)]).sort(0).values
    ptr = torch.tensor([0, *np.cumsum(count).tolist()])
    ends[:, ptr[:-1][ptr.diff() > 0]] = 1.0
    return World(rows, ptr, ends[0].contiguous(), ends[1].contiguous())


@pytest.mark.parametrize("dyadic", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_ranges_agree_bit_for_bit(way: Way, size: tuple[int, int, int], dyadic: bool) -> None:
    for seed in range(5):
        w = world(seed, *size, dyadic)
        way.equals_reference(forms.ranges, w.rows, w.ptr, w.low, w.high)


def strided(x: Tensor) -> Tensor:
    """The same numbers, every second of memory."""
    return torch.stack([x, torch.zeros_like(x)], -1)[..., 0]


def test_takes_views(way: Way) -> None:
    w = world(3, 4, 12, 5)
    members, rng = windows(3, 12, 6, 4), np.random.default_rng(3)
    ends = strided(w.low), strided(w.high)
    way.equals_reference(forms.ranges, strided(w.rows), strided(w.ptr), *ends)
    floor, ceiling, _ = forms.ranges(w.rows, w.ptr, w.low, w.high)
    given_ = (strided(x) for x in (w.rows, w.ptr, *ends, members, floor, ceiling))
    there = forms.pool_rivals(*(way.place(x) for x in given_), backend=way.backend)
    assert torch.equal(there[0].cpu(), forms.pool_rivals(w.rows, w.ptr, w.low, w.high, members, floor, ceiling)[0])
    tile, unit, minus = (torch.from_numpy(rng.integers(0, 4, 9)) for _ in range(3))
    symbol = torch.arange(len(w.rows), dtype=torch.int32)
    way.equals_reference(forms.columns, *(strided(x) for x in (w.rows, w.ptr, symbol, tile, unit, minus)))
    source, slope = torch.tensor([0, -1, 1, -1]), torch.from_numpy(rng.normal(size=(4, 12)))
    fresh, jump = torch.tensor([3, 5]), torch.tensor([0.5, 2.0], dtype=torch.float64)
    given_ = (strided(x) for x in (w.rows, source, torch.tensor([0, 1, 2, 3]), slope, fresh, jump))
    way.equals_reference(forms.rescale, *given_)
    owner = torch.repeat_interleave(torch.arange(4), w.ptr.diff())
    way.equals_reference(forms.surviving, strided(w.rows), strided(owner), strided(slope))


@given(SEEDS)
@settings(deadline=None, max_examples=50)
def test_ranges_hold_every_value(seed: int) -> None:
    w = world(seed, 3, 6, 5, dyadic=True)
    low, high, size = forms.ranges(w.rows, w.ptr, w.low, w.high)
    rng = np.random.default_rng(seed)
    for _ in range(8):
        x = w.values(rng)
        slack = 1e-12 * size  # only an end drawn between two dyadic numbers rounds
        assert (low - slack <= x).all()
        assert (x <= high + slack).all()
    assert (torch.maximum(low.abs(), high.abs()) <= size).all()
    assert not torch.stack([low, high])[:, w.ptr.diff() == 0].any()


@given(SEEDS)
@settings(deadline=None, max_examples=50)
def test_ranges_are_reached(seed: int) -> None:
    """Symbols at the ends that a unit's signs choose give its bound exactly, in dyadic numbers."""
    w = world(seed, 1, 4, 5, dyadic=True)
    low, high, _ = forms.ranges(w.rows, w.ptr, w.low, w.high)
    upper = torch.where(w.rows > 0, w.high[:, None], w.low[:, None])
    lower = torch.where(w.rows > 0, w.low[:, None], w.high[:, None])
    assert torch.equal((w.rows * upper).sum(0), high[0])
    assert torch.equal((w.rows * lower).sum(0), low[0])


@pytest.mark.parametrize("size", SIZES)
def test_rescale_agrees_bit_for_bit(way: Way, size: tuple[int, int, int]) -> None:
    for seed in range(5):
        w = world(seed, *size)
        rng = np.random.default_rng(seed)
        owner = torch.repeat_interleave(torch.arange(size[0]), w.ptr.diff())
        source, tile, fresh = [], [], []
        for t in range(size[0]):  # every second row is kept, and two symbols are new
            own = [r for r in range(len(owner)) if owner[r] == t and r % 2 == 0]
            source += [*own, -1, -1]
            tile += [t] * (len(own) + 2)
            fresh += rng.integers(0, size[1], 2).tolist()
        given_ = (
            w.rows, torch.tensor(source), torch.tensor(tile), torch.from_numpy(rng.normal(size=size[:2])),
            torch.tensor(fresh), torch.from_numpy(rng.normal(size=len(fresh))),
        )  # fmt: skip
        wanted = forms.rescale(*given_, backend="reference")
        way.equals_reference(forms.rescale, *given_)
        new = wanted[torch.tensor(source) < 0]
        assert torch.equal((new != 0).sum(1), torch.ones(len(fresh), dtype=torch.int64))
        assert torch.equal(new[torch.arange(len(fresh)), torch.tensor(fresh)], given_[5])


def windows(seed: int, units: int, count: int, k: int) -> Tensor:
    """int64 (count, k): windows of distinct units with members missing here and there."""
    rng = np.random.default_rng(seed)
    members = np.stack([rng.permutation(units)[:k] for _ in range(count)])
    members[:, 1:][rng.random((count, k - 1)) < 0.2] = -1
    return torch.from_numpy(members)


@pytest.mark.parametrize("dyadic", [False, True])
def test_pool_winners_agree_and_rises_agree_where_they_matter(way: Way, dyadic: bool) -> None:
    """A rival whose ceiling lies below the winner's floor cannot rise: only the sign of its bound is promised."""
    ties = 0
    for seed in range(20):
        w = world(seed, 4, 12, 5, dyadic)
        members = windows(seed, 12, 6, 4)
        floor, ceiling, _ = forms.ranges(w.rows, w.ptr, w.low, w.high)
        given_ = (w.rows, w.ptr, w.low, w.high, members, floor, ceiling)
        there = forms.pool_rivals(*(way.place(x) for x in given_), backend=way.backend)
        winner, rise = (x.cpu() for x in there)
        wanted, bound = forms.pool_rivals(*given_, backend="reference")
        assert torch.equal(winner, wanted)
        matter = (rise > 0) | (bound > 0)
        assert torch.equal(rise[matter], bound[matter])
        assert torch.equal(rise == -torch.inf, bound == -torch.inf)
        for t in (w.ptr.diff() > 0).nonzero()[:, 0].tolist():
            centre = torch.where(members >= 0, w.rows[w.ptr[t]][members], -torch.inf)
            best = centre.max(1).values
            assert torch.equal(w.rows[w.ptr[t]][winner[t]], best)
            tied = centre == best[:, None]
            ties += int((tied.sum(1) > 1).sum())
            tallest = torch.where(tied, ceiling[t][members], -torch.inf).max(1).values
            assert torch.equal(ceiling[t][winner[t]], tallest)
    assert ties > 0


@given(SEEDS)
@settings(deadline=None, max_examples=50)
def test_no_rival_rises_further_than_its_bound(seed: int) -> None:
    w = world(seed, 3, 9, 4)
    members = windows(seed, 9, 4, 3)
    floor, ceiling, size = forms.ranges(w.rows, w.ptr, w.low, w.high)
    winner, rise = forms.pool_rivals(w.rows, w.ptr, w.low, w.high, members, floor, ceiling)
    rng = np.random.default_rng(seed)
    for _ in range(8):
        x = w.values(rng)
        for t in (w.ptr.diff() > 0).nonzero()[:, 0].tolist():
            rival = (members >= 0) & (members != winner[t][:, None])
            gap = x[t][members] - x[t][winner[t]][:, None]
            assert (gap[rival] <= rise[t][rival] + 1e-12 * float(size[t].max())).all()


def test_columns_agree_bit_for_bit(way: Way) -> None:
    for seed in range(10):
        w = world(seed, 5, 8, 6)
        rng = np.random.default_rng(seed)
        symbol = torch.from_numpy(rng.permutation(len(w.rows)).astype(np.int32))
        tile, unit = (torch.from_numpy(rng.integers(0, n, 40)) for n in (5, 8))
        minus = torch.from_numpy(rng.integers(-1, 8, 40))
        given_ = (w.rows, w.ptr, symbol, tile, unit, minus)
        way.equals_reference(forms.columns, *given_)
        first, term, coefficient = forms.columns(*given_)
        assert (coefficient != 0).all()
        for n in range(40):  # the terms are the form, scattered
            own, form = slice(int(first[n]), int(first[n + 1])), torch.zeros(len(w.rows), dtype=torch.float64)
            form[term[own].long()] = coefficient[own]
            mine = slice(int(w.ptr[tile[n]]), int(w.ptr[tile[n] + 1]))
            other = w.rows[mine, minus[n]] if minus[n] >= 0 else 0.0
            assert torch.equal(form[symbol[mine].long()], w.rows[mine, unit[n]] - other)


def test_columns_of_a_layer_without_units(way: Way) -> None:
    ptr, none = torch.tensor([0, 1, 3]), torch.zeros(0, dtype=torch.int64)
    rows, symbol = torch.zeros((3, 0), dtype=torch.float64), torch.zeros(3, dtype=torch.int32)
    way.equals_reference(forms.columns, rows, ptr, symbol, none, none, none)
    first, term, coefficient = forms.columns(rows, ptr, symbol, none, none, none)
    assert (first.tolist(), len(term), len(coefficient)) == ([0], 0, 0)


@pytest.mark.parametrize("seed", range(40))
def test_convolve_is_the_convolution(way: Way, seed: int) -> None:
    """In dyadic numbers, where every order of summation gives the same bits."""
    rng = np.random.default_rng(seed)
    kernel, (stride, padding, dilation) = rng.integers(1, 4, 2), rng.integers(1, 3, (3, 2))
    sides = dilation * (kernel - 1) + 1 + rng.integers(0, 4, 2)
    ins, outs = (3, 35) if seed == 0 else (18, 2) if seed == 1 else rng.integers(1, 4, 2)
    rows = rng.integers(-3, 4, (3, ins, *sides)) / 2 * (rng.random((3, ins, *sides)) > 0.5)
    weight = rng.integers(-3, 4, (outs, ins, *kernel)) / 4
    given_ = (torch.from_numpy(rows), torch.from_numpy(weight))
    options = tuple((int(a), int(b)) for a, b in (stride, padding, dilation))
    way.equals_reference(forms.convolve, *given_, *options)


def test_the_refusals_name_the_tensor() -> None:
    w = world(0, 2, 3, 4)
    with pytest.raises(ValueError, match=r"forms\.ranges: rows must be float64 \(rows, units\), got float32"):
        forms.ranges(w.rows.float(), w.ptr, w.low, w.high)
    with pytest.raises(ValueError, match=r"forms\.ranges: low must be float64\[\d+\], got float64\[\d+\]@cpu"):
        forms.ranges(w.rows, w.ptr, w.low[1:], w.high)


def test_cost_counts_compulsory_work() -> None:
    c = forms.cost(rows=10, units=7, tiles=2)
    assert (c.bytes, c.flops) == (8 * (70 + 42), 350)


def test_rows_that_survive_and_keys_that_add_up(way: Way, rng: torch.Generator) -> None:
    rows = torch.randint(-1, 2, (30, 9), generator=rng).double()
    slope = torch.randint(0, 2, (4, 9), generator=rng).double()
    tile = torch.randint(0, 4, (30,), generator=rng).sort().values
    way.equals_reference(forms.surviving, rows, tile, slope)
    found = forms.surviving(rows, tile, slope)
    assert found.any()
    assert not found.all()
    on = torch.rand(4, 9, generator=rng) > 0.5
    keys = torch.randint(-(2**62), 2**62, (9, 2), generator=rng)
    way.equals_reference(forms.key_sums, on, keys)
    assert torch.equal(forms.key_sums(on, keys), on.long() @ keys)
