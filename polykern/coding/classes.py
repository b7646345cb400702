"""How far the codes of classes lie apart: the distance of an error-correcting code, and how far its words scatter.

The word of a class has every bit that more than half of its codes have. A code with least distance d between words
corrects (d - 1) / 2 wrong bits of any word; how many bits a code is off its own word says whether that is enough.
"""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from polykern.errors import UsageError

Bits = NDArray[np.bool_]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class ClassCodes:
    """Distances in bits.

    least    between the words of two classes, the two nearest ones
    mean     between the words of two classes, over all pairs
    radius   of a code from the word of its own class, mean over the codes that were tested
    decoded  share of them whose nearest word is that of their class; of equal distances the smallest class
    """

    least: int
    mean: float
    radius: float
    decoded: float

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


def class_codes(bits: Bits, classes: Integers, tested: Bits, truth: Integers) -> ClassCodes:
    """The words of classes by some codes, and how other codes lie to them.

    bits, classes  bool (n, units), int64 (n)   of which the words are made
    tested, truth  the same                     that are decoded

    Exact counts. Errors: UsageError for fewer than two classes, or a class that has no word.
    """
    names = np.unique(classes)
    if len(names) < 2 or not np.isin(truth, names).all():
        raise UsageError(f"codes of {len(names)} classes have no distance between classes that are tested")
    words = np.stack([bits[classes == c].mean(0) > 0.5 for c in names])
    between = (words[:, None] != words[None]).sum(-1)[np.triu_indices(len(names), 1)]
    away = (tested[:, None] != words[None]).sum(-1)
    own = np.searchsorted(names, truth)
    return ClassCodes(
        int(between.min()), float(between.mean()), float(away[np.arange(len(own)), own].mean()),
        float((away.argmin(1) == own).mean()),
    )  # fmt: skip
