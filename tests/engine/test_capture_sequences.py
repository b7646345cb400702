"""Tokens of a text, the sequences they are packed into, and which of them are kept."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polykern.capturing.sampling import Sampling
from polykern.capturing.sequences import Cutter, Part
from polykern.capturing.sequences import Sequence as Tokens
from polykern.errors import UsageError
from polykern.models.vocabulary import Vocabulary
from tests.engine.languages import END, tokenizer, vocabulary

# --- which tokens are kept ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "skip", "length", "kept"),
    [
        ("sample:6", None, 1024, [100, 285, 469, 654, 838, 1023]),  # Black et al. 2022
        ("sample:6", None, 512, [50, 142, 234, 327, 419, 511]),
        ("sample:6", 0, 1024, [0, 205, 409, 614, 818, 1023]),
        ("sample:2", 10, 20, [10, 19]),
        ("sample:1", None, 512, [511]),
        ("sample:6", 2, 5, [2, 3, 4]),  # each position once
        ("sample:6", 5, 5, []),
        ("sample:6", None, 1, [0]),
        ("every", None, 3, [0, 1, 2]),
        ("every", 2, 4, [2, 3]),
        ("every", 9, 4, []),
        ("stride:3", None, 8, [0, 3, 6]),
        ("stride:3", 1, 8, [1, 4, 7]),
    ],
)
def test_positions(word: str, skip: int | None, length: int, kept: list[int]) -> None:
    rule = Sampling.of(word, skip)
    assert str(rule) == word
    assert rule.positions(length).tolist() == kept


@given(st.integers(1, 40), st.integers(0, 50), st.integers(1, 3000))
@settings(deadline=None)
def test_a_sample_is_numpys_linspace_with_halves_up(count: int, skip: int, length: int) -> None:
    kept = Sampling("sample", count, skip).positions(length)
    if skip >= length:
        assert not len(kept)
        return
    wanted = np.floor(np.linspace(skip, length - 1, count) + 0.5 + 1e-9) if count > 1 else [length - 1]
    assert kept.tolist() == sorted(set(np.asarray(wanted, int).tolist()))


@pytest.mark.parametrize("word", ["all", "stride", "stride:0", "sample:-1", "sample:1.5", "every:2", ""])
def test_other_rules_are_refused(word: str) -> None:
    with pytest.raises(UsageError, match="cannot be chosen by"):
        Sampling.of(word)


# --- pieces -------------------------------------------------------------------------------------

VOCABULARY = vocabulary()


def cut(text: str, words: Vocabulary = VOCABULARY) -> list[bytes]:
    [found] = words.pieces([text])
    return [found.utf8[a:b] for a, b in zip([0, *found.ends.tolist()], found.ends.tolist(), strict=False)]


@given(st.text(st.characters(codec=None), max_size=60))
@settings(deadline=None)
def test_pieces_join_to_the_text(text: str) -> None:
    found = b"".join(cut(text)).decode()
    assert found == "".join("\N{REPLACEMENT CHARACTER}" if "\ud800" <= c <= "\udfff" else c for c in text)


def test_a_character_of_several_tokens_belongs_to_the_first() -> None:
    assert cut("a€b") == [b"a", "€".encode(), b"", b"", b"b"]


def test_a_special_token_in_a_text_is_text() -> None:
    [found] = VOCABULARY.pieces([f"a{END}b"])
    assert VOCABULARY.separator not in found.ids.tolist()
    assert b"".join(cut(f"a{END}b")) == f"a{END}b".encode()


def test_what_stands_around_a_text() -> None:
    words = vocabulary(around=True)
    assert [words.name(t) for t in (*words.opening, *words.closing)] == ["[CLS]", "[SEP]"]
    assert (VOCABULARY.opening, VOCABULARY.closing, VOCABULARY.name(VOCABULARY.separator or 0)) == ((), (), END)
    with pytest.raises(UsageError, match="no token '<none>'"):
        Vocabulary(tokenizer(), separator="<none>")
    with pytest.raises(UsageError, match="which characters"):
        Vocabulary(["no", "tokenizer"])


# --- sequences ----------------------------------------------------------------------------------


def parts(texts: Sequence[str], corpora: Sequence[int] | None = None) -> list[Part]:
    numbers = corpora or [0] * len(texts)
    return [
        Part(text, f"d{k}", c, {"file": 0, "at": k, "part": 0, "document": k}, True, True)
        for k, (text, c) in enumerate(zip(texts, numbers, strict=True))
    ]


def sequences(
    given: Sequence[Part], length: int, *, pack: bool, words: Vocabulary = VOCABULARY, skip: int = 0
) -> list[Tokens]:
    pieces = words.pieces([p.text for p in given])
    return list(Cutter(words, length, pack=pack).sequences(zip(given, pieces, strict=True), skip))


def shown(s: Tokens) -> list[str]:
    return [s.utf8[a:b].decode() for a, b in zip([0, *s.ends.tolist()], s.ends.tolist(), strict=False)]


def test_packed_documents_have_the_separator_between_them() -> None:
    found = sequences(parts(["abc", "", "de", "fghij"]), 4, pack=True)
    assert [shown(s) for s in found] == [["a", "b", "c", END], ["d", "e", END, "f"], ["g", "h", "i", "j"], [END]]
    assert [s.text.tolist() for s in found][1] == [True, True, False, True]
    assert [s.documents for s in found] == [("d0",), ("d2", "d3"), ("d3",), ("d3",)]


def test_documents_apart_are_cut_and_get_what_stands_around() -> None:
    found = sequences(parts(["abcde", "", "fg"], [0, 0, 1]), 5, pack=False, words=vocabulary(around=True))
    assert [shown(s) for s in found] == [
        ["[CLS]", "a", "b", "c", "[SEP]"], ["[CLS]", "d", "e", "[SEP]"], ["[CLS]", "f", "g", "[SEP]"],
    ]  # fmt: skip
    assert [s.corpora.tolist()[1:-1] for s in found] == [[0, 0, 0], [0, 0], [1, 1]]
    assert all(s.text.tolist() == [False, *[True] * (len(s.ids) - 2), False] for s in found)


def test_a_document_in_parts_is_one_document() -> None:
    first, second = parts(["ab", "cd"])
    whole = [first._replace(last=False), second._replace(first=False)]
    for pack, wanted in ((False, [["a", "b", "c"], ["d"]]), (True, [["a", "b", "c"], ["d", END]])):
        assert [shown(s) for s in sequences(whole, 3, pack=pack)] == wanted


@given(
    st.lists(st.text("ab the€", max_size=12), max_size=6),
    st.integers(1, 7),
    st.booleans(),
    st.booleans(),
    st.data(),
)
@settings(max_examples=60, deadline=None)
def test_any_sequence_can_be_gone_on_from(
    texts: list[str], room: int, pack: bool, around: bool, data: st.DataObject
) -> None:
    words = vocabulary(around=around)
    given_parts = parts(texts)
    whole = sequences(given_parts, room + 2 * around, pack=pack, words=words)
    text = b"".join(s.utf8[a:b] for s in whole for a, b, kept in _spans(s) if kept)
    assert text == "".join(texts).encode()
    assert all(len(s.ids) <= room + 2 * around for s in whole)
    if whole:
        k = data.draw(st.integers(0, len(whole) - 1))
        place = whole[k].after
        rest = sequences(given_parts[place["at"] :], room + 2 * around, pack=pack, words=words, skip=place["token"])
        assert [(s.ids.tolist(), s.utf8, s.after) for s in rest] == [
            (s.ids.tolist(), s.utf8, s.after) for s in whole[k + 1 :]
        ]


def _spans(s: Tokens) -> list[tuple[int, int, bool]]:
    ends = s.ends.tolist()
    return list(zip([0, *ends], ends, s.text.tolist(), strict=False))


def test_what_has_no_room_is_refused() -> None:
    with pytest.raises(UsageError, match="holds no text"):
        Cutter(vocabulary(around=True), 2, pack=False)
    bare = vocabulary()
    bare.separator = None
    with pytest.raises(UsageError, match="stand between documents"):
        Cutter(bare, 8, pack=True)
