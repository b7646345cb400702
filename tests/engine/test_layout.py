"""Which bit is which unit."""

import pytest

from polykern.errors import UsageError
from polykern.layout import Field, Layout


def _field(module: str, shape: tuple[int, ...], thresholds: tuple[float, ...] = (0.0,), call: int = 0) -> Field:
    return Field(module, call, "relu", shape, thresholds, 0)


def test_fields_follow_each_other_without_padding() -> None:
    layout = Layout.of([_field("a", (3, 5)), _field("b", (2,), (0.0, 6.0)), _field("b", (), call=1)])
    assert [(f.name, f.units, f.bits, f.offset) for f in layout.fields] == [
        ("a", 15, 15, 0),
        ("b", 2, 4, 15),
        ("b#1", 1, 1, 19),
    ]
    assert (layout.bits, layout.words) == (20, 1)


@pytest.mark.parametrize(("bits", "words"), [(1, 1), (31, 1), (32, 1), (33, 2), (64, 2), (112_112, 3504)])
def test_words_hold_the_bits(bits: int, words: int) -> None:
    assert Layout.of([_field("a", (bits,))]).words == words


def test_find_names_the_nearest() -> None:
    layout = Layout.of([_field("features.3", (2,)), _field("head", (2,))])
    assert layout.find("head").offset == 2
    with pytest.raises(UsageError, match=r"'features\.4'(.|\n)*nearest names: features\.3"):
        layout.find("features.4")


@pytest.mark.parametrize(
    "other",
    [
        [_field("a", (3,)), _field("b", (3,))],
        [_field("a", (2,)), _field("c", (3,))],
        [_field("a", (2,)), _field("b", (3,), (1.0,))],
        [_field("a", (2,)), _field("b", (3,), call=1)],
    ],
)
def test_another_layout_is_refused_by_its_first_difference(other: list[Field]) -> None:
    mine, theirs = Layout.of([_field("a", (2,)), _field("b", (3,))]), Layout.of(other)
    with pytest.raises(UsageError, match=r"different layouts: Field\(module='[ab]'"):
        mine.require_same(theirs)


def test_a_longer_layout_is_refused() -> None:
    short = Layout.of([_field("a", (2,))])
    with pytest.raises(UsageError, match=r"1 fields against 2$"):
        short.require_same(Layout.of([_field("a", (2,)), _field("b", (3,))]))
    short.require_same(Layout.of([_field("a", (2,))]))
