"""Text to tokens: which tokens a text has, and which bytes of it each token stands for."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from polykern.errors import UsageError

_LONE = re.compile("[\ud800-\udfff]")  # halves of surrogate pairs: no UTF-8 holds them
STANDS_FOR_LONE = "\N{REPLACEMENT CHARACTER}"


class Pieces(NamedTuple):
    """A text cut into its tokens; special tokens are not among them.

    ids   int32 (t)  tokens
    ends  int64 (t)  byte of `utf8` at which the piece of each token ends; ascending
    utf8  the text
    """

    ids: NDArray[np.int32]
    ends: NDArray[np.int64]
    utf8: bytes


class Vocabulary:
    """A tokenizer with what a capture has to know about it.

    given  a tokenizers.Tokenizer, a tokenizer of transformers, or the path of a tokenizer.json

    separator  token between the documents of a packed sequence, None where the tokenizer has none
    opening    tokens that stand before every text that is read by itself
    closing    tokens that stand behind it
    padding    token that stands for none: the tokenizer's own, else its separator; None where it has neither
    longest    tokens that the tokenizer says a model can read; None: it does not say

    Special tokens are never found in a text: "<|endoftext|>" written in a document is text like any other.
    Errors: UsageError when `given` is no tokenizer or cannot say which characters a token stands for.
    """

    def __init__(self, given: Any, *, separator: str | None = None) -> None:
        self._encode = _copied(given)
        self._encode.no_padding()
        self._encode.no_truncation()
        self._encode.encode_special_tokens = True
        longest = getattr(given, "model_max_length", None)
        self.longest = int(longest) if longest is not None and longest < 1 << 30 else None
        self.opening, self.closing = self._around()
        self.separator = self._separator(given, separator)
        self.padding = self._padding(given)

    def __len__(self) -> int:
        """Number of tokens there are, added ones included."""
        return int(self._encode.get_vocab_size())

    def name(self, token: int) -> str:
        """A token as the tokenizer writes it: [CLS], <|endoftext|>."""
        return str(self._encode.id_to_token(token) or "")

    def pieces(self, texts: Sequence[str]) -> list[Pieces]:
        """The tokens of each text.

        texts    any strings; a lone surrogate counts as U+FFFD

        A piece goes from the end of the piece before to the last character its token stands for, so the pieces
        of a text join to it, but for what follows the last token. Characters that are several tokens belong to
        the first of them; the others' pieces are empty.
        """
        clean = [_LONE.sub(STANDS_FOR_LONE, text) for text in texts]
        found = self._encode.encode_batch(clean, add_special_tokens=False)
        return [_pieces(text, e.ids, e.offsets) for text, e in zip(clean, found, strict=True)]

    def _around(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        plain = self._encode.encode("a", add_special_tokens=False).ids
        whole = self._encode.encode("a", add_special_tokens=True).ids
        for k in range(len(whole) - len(plain) + 1):
            if whole[k : k + len(plain)] == plain:
                return tuple(whole[:k]), tuple(whole[k + len(plain) :])
        return (), ()

    def _separator(self, given: Any, wanted: str | None) -> int | None:
        named = [getattr(given, f"{kind}_token", None) for kind in ("eos", "sep", "bos")]
        usual = ("<|endoftext|>", "</s>", "[SEP]", "<eos>", "<|end_of_text|>")
        for name in [wanted] if wanted is not None else [*named, *usual]:
            found = None if name is None else self._encode.token_to_id(str(name))
            if found is not None:
                return int(found)
        if wanted is not None:
            raise UsageError(f"the tokenizer has no token {wanted!r} to stand between documents")
        return self.closing[-1] if self.closing else (self.opening[0] if self.opening else None)

    def _padding(self, given: Any) -> int | None:
        for name in (getattr(given, "pad_token", None), "[PAD]", "<pad>", "<|padding|>", "<|pad|>"):
            found = None if name is None else self._encode.token_to_id(str(name))
            if found is not None:
                return int(found)
        return self.separator


def _copied(given: Any) -> Any:
    """A tokenizers.Tokenizer of its own, whose settings may be changed."""
    from polykern.models import _transformers

    if isinstance(given, str | Path):
        return _transformers.tokenizer(Path(given))
    _transformers.library()
    from tokenizers import Tokenizer

    given = getattr(given, "backend_tokenizer", given)
    if not isinstance(given, Tokenizer):
        raise UsageError(
            f"{type(given).__name__} does not say which characters a token stands for",
            fix="use a fast tokenizer: one with a tokenizer.json",
        )
    return Tokenizer.from_str(given.to_str())


def _pieces(text: str, ids: Sequence[int], offsets: Sequence[tuple[int, int]]) -> Pieces:
    utf8 = text.encode()
    ends = np.array([end for _, end in offsets], np.int64)
    if len(utf8) != len(text):  # else a character is a byte
        points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        sizes = 1 + (points > 0x7F).astype(np.int64) + (points > 0x7FF) + (points > 0xFFFF)
        ends = np.concatenate([[0], np.cumsum(sizes)])[ends]
    return Pieces(np.array(ids, np.int32), np.maximum.accumulate(ends), utf8)
