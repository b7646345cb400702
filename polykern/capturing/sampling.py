"""Which tokens of a sequence are kept: every one, every n-th, or a few that are evenly spaced.

Black et al. 2022 take 6 of 1024 tokens, evenly spaced, without the first 100: positions 100, 285, 469, 654, 838,
1023.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polykern.errors import UsageError

FIRST, OF = 100, 1024  # a sample leaves the first 100 of 1024 tokens out, and as large a share of fewer
_WORD = re.compile(r"(every)|(stride|sample):(\d{1,9})")


@dataclass(frozen=True, slots=True)
class Sampling:
    """A rule that chooses positions of a sequence.

    kind   "every", "stride" (every `count`-th) or "sample" (`count`, evenly spaced)
    count  1 for "every"
    skip   tokens at the beginning that are never chosen; None: none, or with "sample" 100 / 1024 of the sequence
    """

    kind: str = "every"
    count: int = 1
    skip: int | None = None

    @classmethod
    def of(cls, word: str, skip: int | None = None) -> "Sampling":
        """The rule a word stands for: every, stride:N or sample:N; raises UsageError for any other."""
        found = _WORD.fullmatch(word)
        if found is None or found[3] == "0" * len(found[3] or "1"):
            raise UsageError(f"tokens cannot be chosen by {word!r}", fix="every, stride:N or sample:N, N from 1")
        if skip is not None and skip < 0:
            raise UsageError(f"{skip} tokens cannot be left out")
        return cls("every" if found[1] else found[2], int(found[3] or 1), skip)

    def __str__(self) -> str:
        return self.kind if self.kind == "every" else f"{self.kind}:{self.count}"

    def positions(self, length: int) -> NDArray[np.int64]:
        """The positions that are kept of a sequence.

        length   tokens of the sequence, those around the text included
        returns  int64 (k), ascending, within 0 .. length - 1

        "sample": round(linspace(skip, length - 1, count)) with halves rounded up, each position once;
        skip = round(length * 100 / 1024). A sample of one is the last token.
        """
        if self.kind != "sample":
            return np.arange(min(self.skip or 0, length), length, self.count, dtype=np.int64)
        first = (2 * length * FIRST + OF) // (2 * OF) if self.skip is None else self.skip
        span = length - 1 - first
        if span < 0:
            return np.empty(0, np.int64)
        if self.count == 1:
            return np.array([length - 1], np.int64)
        gaps = self.count - 1
        steps = np.arange(self.count, dtype=np.int64)
        return np.unique(first + (2 * steps * span + gaps) // (2 * gaps))
