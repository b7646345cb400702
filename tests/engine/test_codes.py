"""Codes: distances, fields, refusals, all against bits unpacked by NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from polykern.codes import Codes, joined, packed
from polykern.errors import CorruptError, UsageError
from polykern.layout import Field, Layout


def _layout(*units: int) -> Layout:
    return Layout.of(Field(f"layer{k}", 0, "relu", (n,), (0.0,), 0) for k, n in enumerate(units))


def _codes(bits: NDArray[np.bool_], layout: Layout) -> Codes:
    """Codes of bool (n, bits), packed by NumPy."""
    octets = np.packbits(bits, axis=1, bitorder="little")
    full = np.zeros((len(bits), 4 * layout.words), np.uint8)
    full[:, : octets.shape[1]] = octets
    return Codes(torch.from_numpy(full.view(np.int32)), layout)


def _random(n: int, layout: Layout, seed: int = 0) -> tuple[Codes, NDArray[np.bool_]]:
    bits = np.random.default_rng(seed).random((n, layout.bits)) < 0.4
    return _codes(bits, layout), bits


LAYOUTS = st.lists(st.integers(1, 70), min_size=1, max_size=5).map(lambda units: _layout(*units))


@settings(max_examples=40, deadline=None)
@given(LAYOUTS, st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_distances_are_counts_of_bits(layout: Layout, n: int, m: int, seed: int) -> None:
    (a, bits_a), (b, bits_b) = _random(n, layout, seed), _random(m, layout, seed + 1)
    expected = (bits_a[:, None] != bits_b[None]).sum(2)
    assert np.array_equal(a.distances(b).numpy(), expected)
    assert a.distances(b).dtype == torch.int32
    assert torch.equal(a.distances(b), b.distances(a).T)
    assert not a.distances().diagonal().any()
    assert np.array_equal(a.popcounts.numpy(), bits_a.sum(1))
    assert np.array_equal(a.bits().numpy(), bits_a)


@settings(max_examples=40, deadline=None)
@given(LAYOUTS, st.integers(1, 6), st.integers(0, 99))
def test_fields_are_slices_of_the_bits(layout: Layout, n: int, seed: int) -> None:
    (a, bits_a), (b, bits_b) = _random(n, layout, seed), _random(n, layout, seed + 1)
    differ = bits_a != bits_b
    assert np.array_equal(a.aligned(b).numpy(), differ.sum(1))
    split = a.aligned_by_field(b)
    for k, f in enumerate(layout.fields):
        piece = slice(f.offset, f.offset + f.bits)
        assert a.field(f.name) == _codes(bits_a[:, piece], Layout.of([f]))
        assert np.array_equal(split[k].numpy(), differ[:, piece].sum(1))
    first, last = layout.fields[0], layout.fields[-1]
    if first is not last:
        ends = np.concatenate([bits_a[:, : first.bits], bits_a[:, last.offset :]], 1)
        assert a.field(last.name, first.name) == _codes(ends, Layout.of([first, last]))


def test_packed_and_joined_are_threshold_major() -> None:
    wide = Field("a", 0, "relu6", (2, 2), (0.0, 6.0), 0)
    layout = Layout.of([wide, Field("b", 0, "relu", (3,), (0.0,), 0)])
    z = torch.tensor([[[-1.0, 0.0], [6.0, 7.0]]])
    y = torch.tensor([[1.0, -0.0, torch.inf]])
    words = [packed(f, x) for f, x in zip(layout.fields, (z, y), strict=True)]
    assert joined(words, layout, {}).bits()[0].tolist() == [0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 1]


def test_nan_names_the_nonlinearity_and_the_point() -> None:
    z = torch.zeros(3, 4)
    z[1, 2] = torch.nan
    with pytest.raises(
        CorruptError, match=r"pre-activations of layer0 hold NaN(.|\n)*1 of 3 points, first in number 1"
    ):
        packed(_layout(4).fields[0], z)


def test_pre_activations_of_integers_are_refused_as_such() -> None:
    with pytest.raises(ValueError, match=r"pack\.signs: x must be float"):
        packed(_layout(4).fields[0], torch.zeros(3, 4, dtype=torch.int64))


def test_one_row_stands_for_all() -> None:
    layout = _layout(2, 2)
    codes = joined(
        [torch.tensor([[1], [2], [3]], dtype=torch.int32), torch.tensor([[2]], dtype=torch.int32)], layout, {}
    )
    assert codes.words.flatten().tolist() == [0b1001, 0b1010, 0b1011]
    with pytest.raises(UsageError, match="layer1 has 2 rows where others have 3"):
        joined([torch.zeros(3, 1, dtype=torch.int32), torch.zeros(2, 1, dtype=torch.int32)], layout, {})


def test_rows() -> None:
    layout = _layout(40)
    codes, bits = _random(7, layout)
    assert len(codes) == 7
    assert codes[2] == _codes(bits[2:3], layout)
    assert codes[np.argmax([0, 0, 1])] == codes[2]
    assert codes[-1] == codes[6:]
    assert codes[torch.tensor([3, 1])] == _codes(bits[[3, 1]], layout)
    assert codes[torch.from_numpy(bits[:, 0])] == _codes(bits[bits[:, 0]], layout)
    assert Codes.cat([codes[:3], codes[3:]]) == codes
    with pytest.raises(IndexError):
        codes[7]


def test_equality_sees_every_bit() -> None:
    layout = _layout(33)
    codes, bits = _random(3, layout)
    assert codes == codes.to("cpu")
    bits[2, 32] ^= True
    assert codes != _codes(bits, layout)
    assert codes != codes[:2]
    assert codes != Codes(codes.words, _layout(32, 1))
    assert codes != "codes"
    with pytest.raises(TypeError, match="unhashable"):
        hash(codes)


def test_other_layouts_are_refused() -> None:
    mine, theirs = _random(2, _layout(8))[0], _random(2, _layout(7, 1))[0]
    for compare in (mine.distances, mine.aligned, mine.aligned_by_field):
        with pytest.raises(UsageError, match="different layouts"):
            compare(theirs)
    with pytest.raises(UsageError, match="different layouts"):
        Codes.cat([mine, theirs])
    with pytest.raises(UsageError, match="no codes"):
        Codes.cat([])
    with pytest.raises(UsageError, match="aligned distances of 2 and 1"):
        mine.aligned(mine[:1])


@pytest.mark.parametrize(
    "words",
    [torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2, 2, dtype=torch.int32), torch.zeros(2, dtype=torch.int32)],
)
def test_words_must_fit_the_layout(words: torch.Tensor) -> None:
    with pytest.raises(UsageError, match=r"codes of 8 bits are int32 \(n, 1\)"):
        Codes(words, _layout(8))


@pytest.mark.parametrize("bit", [31, 30, 9])
def test_bits_behind_the_last_are_damage(bit: int) -> None:
    words = torch.zeros(2, 1, dtype=torch.int32)
    words[1] = -(1 << 31) if bit == 31 else 1 << bit
    with pytest.raises(CorruptError, match="behind the 9 bits"):
        Codes(words, _layout(9))
    Codes(words >> 31 & 0x1FF, _layout(9))


def test_choices_count_one_each() -> None:
    layout = _layout(8)
    words = torch.zeros(2, 1, dtype=torch.int32)
    choices = {"pool:max_pool": torch.tensor([[[0, 1], [2, 4]], [[0, 2], [1, 4]]], dtype=torch.uint8)}
    codes = Codes(words, layout, choices)
    other = Codes(words + torch.tensor([[1], [3]], dtype=torch.int32), layout, choices)
    assert codes.distances().tolist() == [[0, 2], [2, 0]]
    assert codes.distances(other).tolist() == [[1, 4], [3, 2]]
    assert codes.aligned(other).tolist() == [1, 2]
    assert codes[1].aligned(codes[0]).tolist() == [2]
    assert codes != Codes(words, layout)
    with pytest.raises(UsageError, match="different choices"):
        codes.distances(Codes(words, layout))
    with pytest.raises(UsageError, match="1 rows beside 2 codes"):
        Codes(words, layout, {"pool:max_pool": choices["pool:max_pool"][:1]})


def test_no_points_are_codes_too() -> None:
    none = Codes(torch.zeros(0, 1, dtype=torch.int32), _layout(5))
    some = _random(3, _layout(5))[0]
    assert len(none) == 0
    assert none.distances(some).shape == (0, 3)
    assert none.bits().shape == (0, 5)
    assert Codes.cat([none, some]) == some
    assert repr(some) == "Codes(3 points, 5 bits of 1 nonlinearities)"
