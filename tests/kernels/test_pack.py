"""pack: every backend equals the reference; the sign of every kind of number; bits there and back."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polykern_kernels import pack
from polykern_kernels._bits import words_for
from tests.kernels.conftest import Way

# one unit, a word less and more one, several words and a tail, no rows, no units, several rows a task
SHAPES = [(1, 1), (3, 31), (5, 32), (7, 33), (2, 1100), (0, 5), (4, 0), (33, 70)]


def numbers(rows: int, units: int, dtype: torch.dtype, rng: torch.Generator) -> torch.Tensor:
    """Normal numbers, both zeros, infinities and the smallest subnormals among them."""
    x = torch.randn((rows, units), generator=rng).to(dtype)
    tiny = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    special = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, tiny, -tiny, 6.0], dtype=dtype)
    which = torch.randint(0, 3 * len(special), (rows, units), generator=rng)
    return torch.where(which < len(special), special[which.clamp(max=len(special) - 1)], x)


@pytest.mark.parametrize("dtype", pack.FLOATS, ids=str)
@pytest.mark.parametrize(("rows", "units"), SHAPES)
def test_signs_equal_reference(way: Way, rows: int, units: int, dtype: torch.dtype, rng: torch.Generator) -> None:
    way.equals_reference(pack.signs, numbers(rows, units, dtype, rng))


# a kink that no float holds, one that rounds to zero from either side, one that is out of float16's range
@pytest.mark.parametrize("thresholds", [[0.0, 6.0], [0.1, -0.1, 1e-300, -1e-300], [-1e5, 1e5, 1.0]])
@pytest.mark.parametrize("dtype", pack.FLOATS, ids=str)
def test_several_thresholds(way: Way, thresholds: list[float], dtype: torch.dtype, rng: torch.Generator) -> None:
    way.equals_reference(pack.signs, numbers(3, 45, dtype, rng), thresholds)


@pytest.mark.parametrize(("rows", "units"), [(3, 31), (2, 75), (0, 5)])
def test_thresholds_of_each_unit(way: Way, rows: int, units: int, rng: torch.Generator) -> None:
    x = numbers(rows, units, torch.bfloat16, rng)
    way.equals_reference(pack.signs, x, torch.randn((2, units), generator=rng))


def test_comparisons_are_of_real_numbers() -> None:
    x = torch.tensor([[0.1]])  # a little above 0.1
    assert float(x) > 0.1
    assert pack.signs(x, [0.1])[0].item() == 1
    assert pack.signs(x, [float(x)])[0].item() == 0


def test_zeros_infinities_and_subnormals(way: Way) -> None:
    x = torch.tensor([[0.0, -0.0, 1e-45, -1e-45, torch.inf, -torch.inf]], device=way.device)
    words, ones = pack.signs(x, backend=way.backend)
    assert (words.item(), ones.item()) == (0b010100, 2)


def test_nan_raises_and_is_counted(way: Way) -> None:
    x = torch.zeros((40, 70), device=way.device)
    x[3, 5] = x[3, 69] = x[39, 0] = torch.nan
    with pytest.raises(ValueError, match=r"pack.signs: x holds 3 NaN"):
        pack.signs(x, [0.0, 1.0], backend=way.backend)
    with pytest.raises(ValueError, match=r"x holds 1 NaN"):
        pack.signs(-x[:4, :60].bfloat16(), backend=way.backend)


@pytest.mark.parametrize(("rows", "bits"), [(1, 1), (3, 32), (2, 33), (0, 7), (3, 0), (4, 1030)])
def test_unpack_equals_reference(way: Way, rows: int, bits: int, rng: torch.Generator) -> None:
    words, _ = pack.signs(torch.randn((rows, bits), generator=rng), backend="reference")
    way.equals_reference(pack.unpack, words, bits)


@pytest.mark.parametrize("bits", [[1], [32, 32], [31, 1, 64], [5, 0, 70, 3, 257], [33, 31]])
def test_join_equals_reference(way: Way, bits: list[int], rng: torch.Generator) -> None:
    parts = [pack.signs(torch.randn((3, n), generator=rng), backend="reference")[0] for n in bits]
    way.equals_reference(pack.join, parts, bits)


# one bit, a part of a square, squares and a rest on both sides, more words than a line, nothing
@pytest.mark.parametrize(
    ("rows", "bits"), [(1, 1), (3, 33), (32, 32), (65, 100), (600, 530), (33, 1100), (0, 7), (3, 0)]
)
def test_transpose_equals_reference(way: Way, rows: int, bits: int, rng: torch.Generator) -> None:
    words, _ = pack.signs(torch.randn((rows, bits), generator=rng), backend="reference")
    way.equals_reference(pack.transpose, words, bits)
    way.equals_reference(pack.transpose, torch.cat([words, words], 1)[:, : words.shape[1]], bits)


def test_takes_views_and_parameters(way: Way, rng: torch.Generator) -> None:
    x = torch.randn((40, 7), generator=rng, requires_grad=True)
    way.equals_reference(pack.signs, x.T)


@pytest.mark.parametrize("programs", [1, 1 << 20])
@pytest.mark.parametrize("units", [600, 1024])
def test_rows_of_one_program_and_of_several(
    way: Way, units: int, programs: int, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way.backend != "triton":
        pytest.skip("the loops of the CPU have whole rows")
    from polykern_kernels.device import pack as device

    monkeypatch.setattr(device, "PROGRAMS", programs)
    x = numbers(11, units, torch.bfloat16, rng)
    way.equals_reference(pack.signs, x)
    way.equals_reference(pack.signs, x, [0.0, 6.0, -1.0])
    x[10, -1] = x[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"x holds 2 NaN"):
        pack.signs(way.place(x), [0.0, 6.0], backend="triton")


@given(st.integers(1, 3), st.integers(1, 80), st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_there_and_back(rows: int, units: int, seed: int) -> None:
    x = torch.randn((rows, units), generator=torch.Generator().manual_seed(seed))
    words, ones = pack.signs(x, [-0.5, 0.5])
    on = torch.cat([x > -0.5, x > 0.5], 1)
    assert torch.equal(pack.unpack(words, 2 * units), on)
    assert torch.equal(ones, on.sum(1, dtype=torch.int32))
    little = np.packbits(on.numpy(), axis=1, bitorder="little")
    assert np.array_equal(words.numpy().view(np.uint8)[:, : little.shape[1]], little)
    assert not words.numpy().view(np.uint8)[:, little.shape[1] :].any()


@given(st.integers(0, 70), st.integers(0, 70), st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_transposing_twice_changes_nothing(rows: int, bits: int, seed: int) -> None:
    words, _ = pack.signs(torch.randn((rows, bits), generator=torch.Generator().manual_seed(seed)))
    turned = pack.transpose(words, bits)
    assert torch.equal(pack.unpack(turned, rows), pack.unpack(words, bits).T)
    assert torch.equal(pack.transpose(turned, rows), words)


@given(st.floats(allow_nan=False), st.sampled_from(pack.FLOATS))
@settings(deadline=None, max_examples=100)
def test_rounding_down_finds_the_neighbour_below(value: float, dtype: torch.dtype) -> None:
    exact = torch.tensor([value], dtype=torch.float64)
    floor = pack.round_down(exact, dtype)
    assert floor.double() <= exact
    above = (pack.order_keys(floor) + 1).contiguous()
    next_up = pack.order_keys(above.view(dtype)).view(dtype)
    assert next_up.isnan() or next_up.double() > exact or (floor == 0 and next_up == 0)
    assert not (floor == 0 and torch.signbit(floor))


def test_the_refusal_names_what_is_wrong() -> None:
    x = torch.zeros((2, 3))
    kinds = r"float32\|float64\|bfloat16\|float16"
    with pytest.raises(ValueError, match=rf"signs: x must be {kinds} \(rows, units\), got int64\[2, 3\]@cpu"):
        pack.signs(x.long())
    with pytest.raises(ValueError, match=r"thresholds must be K >= 1 numbers or \(K, 3\), got float64\[1, 2\]"):
        pack.signs(x, torch.zeros((1, 2)))
    with pytest.raises(ValueError, match=r"thresholds hold NaN"):
        pack.signs(x, [torch.nan])
    words = torch.zeros((2, 1), dtype=torch.int32)
    with pytest.raises(ValueError, match=r"unpack: words must be int32 \(rows, 2\) for 33 bits, got int32\[2, 1\]"):
        pack.unpack(words, 33)
    with pytest.raises(
        ValueError, match=r"transpose: words must be int32 \(rows, 2\) for 33 bits, got int32\[2, 1\]"
    ):
        pack.transpose(words, 33)
    with pytest.raises(ValueError, match=r"join: parts\[1\] must be int32\[2, 1\], got int32\[1, 1\]@cpu"):
        pack.join([words, words[:1]], [3, 3])
    with pytest.raises(ValueError, match=r"needs a number of bits a part, got 1 and 2"):
        pack.join([words], [3, 3])


def test_costs_count_compulsory_work() -> None:
    assert pack.cost(rows=2, units=33, itemsize=2, thresholds=2).bytes == 2 * (66 + 12 + 4)
    assert pack.cost_unpack(rows=2, bits=33).bytes == 2 * (8 + 33)
    assert pack.cost_join(rows=2, bits=[33, 31]).bytes == 4 * 2 * (3 + 2)
    assert pack.cost_transpose(rows=33, bits=65).bytes == 4 * (33 * 3 + 65 * 2)
    assert words_for(64) == 2
