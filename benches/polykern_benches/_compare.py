"""Two runs of the same cases: what became faster, what slower, and what nobody can say.

Of every case the ratio of the medians, new over base, with a bootstrap interval: both sets of samples are drawn
again with replacement, many times, from a seeded generator (Efron 1979).
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polykern.errors import MismatchError, UsageError
from polykern_benches._document import Document, counted, key, measured
from polykern_benches._shown import sizes

DRAWS, COVERED = 10_000, 0.95
SLACK = 0.05  # a change that is no larger is no change
FEWEST = 3  # samples: below, an interval says nothing
NOTHING, NAMES = "the two runs have no case in common", "--filter names cases, --list shows them"
HEAD = ("case", "sizes", "dtype", "backend", "new / base", "95% interval", "verdict")
RIGHT = (4, 5)  # columns that are flush right
FASTER, SAME, SLOWER, UNSURE = "faster", "same", "slower", "too few samples"


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one case on one backend.

    ratio      median of the new run / median of the base; below 1 is faster
    low, high  of its 95% interval
    verdict    faster or slower: the interval excludes 1 and the change is above 5%; same; too few samples
    """

    case: str
    sizes: str
    dtype: str
    backend: str
    ratio: float
    low: float
    high: float
    verdict: str

    def as_dict(self) -> dict[str, Any]:
        """Its fields by name."""
        return asdict(self)


def ratio(new: Sequence[float], base: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """The ratio of the medians of two samples, and its bootstrap interval.

    new, base  float64   positive, any unit
    seed       of the draws
    returns    the ratio, the lower and the upper end of the interval that covers 95%
    """
    draw = np.random.default_rng(seed)
    drawn = _medians(new, draw) / _medians(base, draw)
    low, high = np.quantile(drawn, ((1 - COVERED) / 2, (1 + COVERED) / 2))
    return float(np.median(new) / np.median(base)), float(low), float(high)


def _medians(values: Sequence[float], draw: np.random.Generator) -> NDArray[np.float64]:
    x = np.asarray(values, np.float64)
    return np.median(x[draw.integers(0, len(x), (DRAWS, len(x)))], axis=1)


def verdict(ratio: float, low: float, high: float) -> str:
    """Faster or slower where the interval excludes 1 and the change is above 5%, else same."""
    if low > 1 and ratio > 1 + SLACK:
        return SLOWER
    if high < 1 and ratio < 1 / (1 + SLACK):
        return FASTER
    return SAME


def comparable(new: Document, base: Document) -> None:
    """Raise MismatchError unless both runs are of the same machine, device, threads and sizes."""
    for what, of in _TOLD.items():
        mine, theirs = of(new), of(base)
        if mine != theirs:
            raise MismatchError(
                f"the base was measured with another {what}",
                why=f"{theirs} there, {mine} here: the difference would be theirs, not the code's",
                fix="--across-machines compares all the same",
            )


_TOLD: dict[str, Callable[[Document], Any]] = {
    "device": lambda d: d["device"],
    "processor": lambda d: d["env"].get("cpu"),
    "number of threads": lambda d: d["env"].get("threads"),
    "GPU": lambda d: (d["env"].get("gpu") or {}).get("name"),
    "size (--small)": lambda d: "toys" if d["small"] else "full sizes",
}


Identity = tuple[str, str, str]  # operation, sizes, dtype: what two runs of a case share, whatever the backend


def require_common(wanted: Sequence[Identity], base: Document) -> None:
    """Raise UsageError unless the base has a time of one of the cases."""
    if not {key(record)[:3] for record in measured(base)} & set(wanted):
        raise UsageError(NOTHING, fix=NAMES)


def compare(new: Document, base: Document) -> list[Change]:
    """A change for every case, backend and size that both have measured, in the order of the new run.

    Raises UsageError where there is none.
    """
    before = {key(record): record for record in measured(base)}
    pairs = [(record, before[key(record)]) for record in measured(new) if key(record) in before]
    if not pairs:
        raise UsageError(NOTHING, fix=NAMES)
    return [_change(record, old) for record, old in pairs]


def _change(new: dict[str, Any], base: dict[str, Any]) -> Change:
    mine, theirs = counted(new), counted(base)
    found = ratio(mine, theirs)
    said = verdict(*found) if min(len(mine), len(theirs)) >= FEWEST else UNSURE
    return Change(new["case"], sizes(new["params"]), new["dtype"], new["backend"], *found, said)


def cells(change: Change) -> tuple[str, ...]:
    """A line of the table of a comparison."""
    interval = f"{change.low:.3f} .. {change.high:.3f}"
    return change.case, change.sizes, change.dtype, change.backend, f"{change.ratio:.3f}", interval, change.verdict
