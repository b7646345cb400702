"""Contingency tables of two labellings that hold only the cells that occur."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polykern.errors import UsageError

Integers = NDArray[np.int64]
FEW = 4  # possible pairs a row up to which all of them are counted


@dataclass(frozen=True)
class Table:
    """How often each pair of two labellings occurs; sorted by (first, second).

    first   int64 (cells)   label of the first labelling
    second  int64 (cells)   label of the second
    count   int64 (cells)   rows that have both
    """

    first: Integers
    second: Integers
    count: Integers

    def as_dict(self) -> dict[str, list[int]]:
        """Lists, for JSON."""
        return {name: getattr(self, name).tolist() for name in ("first", "second", "count")}


def labelling(labels: ArrayLike, rows: int | None = None) -> Integers:
    """Labels as int64 (n).

    labels  integers >= -1 (n)
    rows    how many there must be; None: any

    Errors: UsageError for anything else.
    """
    given = np.asarray(labels)
    if given.ndim != 1 or (given.size and (given.dtype.kind not in "iu" or given.min() < -1)):
        raise UsageError(f"labels are integers >= -1 (n), got {given.dtype} {list(given.shape)}")
    _require(len(given), rows)
    return given.astype(np.int64)


def numbered(classes: ArrayLike, rows: int) -> tuple[Integers, NDArray[Any]]:
    """Classes of any kind by number.

    classes  (n)        integers, strings, booleans: what a row is by somebody's word
    rows     n
    returns  int64 (n)  number of each row's class
             (k)        the classes, ascending

    Errors: UsageError for another length or for floats that are NaN.
    """
    given = np.asarray(classes)
    if given.ndim != 1 or given.dtype.kind == "O" or (given.dtype.kind == "f" and np.isnan(given).any()):
        raise UsageError(f"classes are numbers or strings (n), got {given.dtype} {list(given.shape)}")
    _require(len(given), rows)
    names, number = np.unique(given, return_inverse=True)
    return number.astype(np.int64), names


def table(first: Integers, second: Integers) -> Table:
    """The pairs that occur of two labellings of the same rows, int64 (n) each.

    O(n) where few pairs are possible, O(n log n) for any number of labels.
    """
    if not len(first):
        return Table(*(np.zeros(0, np.int64),) * 3)
    low = int(second.min())
    width = int(second.max()) - low + 1
    bottom = int(first.min())
    key = (first - bottom) * width + (second - low)
    if (int(first.max()) - bottom + 1) * width <= FEW * len(first):
        every = np.bincount(key)
        keys = np.flatnonzero(every)
        count = every[keys]
    else:
        keys, count = np.unique(key, return_counts=True)
    return Table(keys // width + bottom, keys % width + low, count.astype(np.int64))


def sizes(labels: Integers) -> Integers:
    """int64 (c): rows of clusters 0 ... c - 1; noise is left out."""
    return np.bincount(labels[labels >= 0]).astype(np.int64) if (labels >= 0).any() else np.zeros(0, np.int64)


def _require(got: int, rows: int | None) -> None:
    if rows is not None and got != rows:
        raise UsageError(f"{got} labels for {rows} rows")
