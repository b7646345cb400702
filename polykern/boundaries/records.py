"""Records of measurements: one estimate each, with what it is of; tables and figures are drawn from them."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from polykern.boundaries.setting import LEVEL, RESAMPLES
from polykern.findings import Picture, Table
from polykern.statistics import Estimate, mean

Record = dict[str, Any]


class Part(Protocol):
    """One part of the findings: numbers, tables and figures of its own."""

    def numbers(self) -> dict[str, Any]:
        """The headline numbers, with their intervals."""
        ...

    def tables(self) -> dict[str, Table]:
        """CSV files."""
        ...

    def pictures(self) -> dict[str, Picture]:
        """Figures."""
        ...


def record(estimate: Estimate, n: int, **what: Any) -> Record:
    """An estimate from n values, and what it is of."""
    return {**what, "value": estimate.value, "low": estimate.low, "high": estimate.high, "n": n}


def averaged(values: ArrayLike, seed: int, **what: Any) -> Record:
    """The mean of values (n), with its interval; of a single value it is not known, of none neither is."""
    held = np.asarray(values, np.float64)
    if len(held) < 2:
        only = float(held[0]) if len(held) else np.nan
        return record(Estimate(only, np.nan, np.nan, LEVEL), len(held), **what)
    return record(mean(held, level=LEVEL, resamples=RESAMPLES, seed=seed), len(held), **what)


def columns(records: Sequence[Record]) -> Table:
    """The records as columns of a CSV file."""
    return {key: [r[key] for r in records] for key in records[0]} if records else {}


def where(records: Sequence[Record], **what: Any) -> list[Record]:
    """The records of which all this is true, in their order."""
    return [r for r in records if all(r[key] == value for key, value in what.items())]


def values(records: Sequence[Record], *keys: str) -> tuple[np.ndarray[Any, np.dtype[np.float64]], ...]:
    """The numbers of records: value, low and high unless other keys are named, float64 (records) each."""
    return tuple(np.array([r[key] for r in records], np.float64) for key in keys or ("value", "low", "high"))


def told(found: Record) -> dict[str, float]:
    """An estimate as JSON has it."""
    return {key: found[key] for key in ("value", "low", "high", "n")}
