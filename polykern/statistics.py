"""Numbers with what can be said of them: bootstrap intervals, Welch's test, rank correlations.

Rows that share a source (pairs that share an image, tokens of one document) are not independent; an interval takes
the groups of its rows and then draws whole groups.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polykern.errors import UsageError

Reals = NDArray[np.float64]
Statistic = Callable[..., Any]  # columns (resamples, n) each -> (resamples)
RESAMPLES = 10_000
HELD = 1 << 22  # numbers drawn at a time


@dataclass(frozen=True)
class Estimate:
    """A number with its bootstrap interval.

    value  of the data themselves
    low    lower end
    high   upper end
    level  share of resamples between the two
    """

    value: float
    low: float
    high: float
    level: float

    @classmethod
    def of(cls, value: float, draws: Reals, level: float) -> "Estimate":
        """A number with the percentile interval of its resamples, float64 (k); those that are nan do not count."""
        held = draws[~np.isnan(draws)]  # a resample of equal rows may have no correlation
        low, high = np.quantile(held, [(1 - level) / 2, (1 + level) / 2]) if len(held) else (np.nan, np.nan)
        return cls(value, float(low), float(high), level)

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


@dataclass(frozen=True)
class Welch:
    """Welch's t-test of two means, two-sided.

    t        positive where the first mean is larger
    freedom  degrees of freedom after Satterthwaite
    p        probability of a |t| at least as large for equal means
    effect   Cohen's d, with the mean of the two variances
    """

    t: float
    freedom: float
    p: float
    effect: float

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


def mean(values: ArrayLike, **how: Any) -> Estimate:
    """The mean of values (n) with its interval; arguments as in `bootstrap`."""
    return bootstrap(lambda x: x.mean(-1), values, **how)


def bootstrap(
    statistic: Statistic,
    *columns: ArrayLike,
    groups: ArrayLike | None = None,
    level: float = 0.99,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """A statistic of rows with its percentile interval.

    statistic  takes the columns, float64 (resamples, n) each, and gives (resamples). With groups: one
               resample at a time, (1, rows)
    columns    float (n) each, drawn together
    groups     int or str (n): rows of one group are drawn together; None: every row by itself
    level      share of resamples inside the interval
    seed       the same seed gives the same interval

    Efron, Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13. Errors: UsageError for fewer than two
    rows or groups, or columns of unequal lengths.
    """
    data = [np.asarray(c, np.float64) for c in columns]
    n = len(data[0])
    if any(c.shape != (n,) for c in data):
        raise UsageError(f"columns of {', '.join(str(len(c)) for c in data)} rows cannot be drawn together")
    _require_rows(n, "rows")
    rng = np.random.default_rng(seed)
    value = float(np.asarray(statistic(*(c[None] for c in data)))[0])
    draws = _grouped(statistic, data, np.asarray(groups), resamples, rng) if groups is not None else None
    if draws is None:
        parts = []
        for first in range(0, resamples, max(1, HELD // n)):
            rows = rng.integers(0, n, (min(max(1, HELD // n), resamples - first), n))
            parts.append(np.asarray(statistic(*(c[rows] for c in data))))
        draws = np.concatenate(parts)
    return Estimate.of(value, draws, level)


def _grouped(
    statistic: Statistic, data: list[Reals], groups: NDArray[Any], resamples: int, rng: np.random.Generator
) -> Reals:
    number = np.unique(groups, return_inverse=True)[1]
    order = np.argsort(number, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(number[order])) + 1)
    _require_rows(len(members), "groups")
    found = np.empty(resamples)
    for k in range(resamples):
        rows = np.concatenate([members[g] for g in rng.integers(0, len(members), len(members))])
        found[k] = np.asarray(statistic(*(c[None, rows] for c in data)))[0]
    return found


def jackknife(value: float, left_out: ArrayLike, *, level: float = 0.95) -> Estimate:
    """A number with the interval that leaving out one group after the other gives: -+ t standard errors.

    value     of all groups
    left_out  float (n)   of all groups but one, for each of the n groups
    level     of the interval, by Student's t with n - 1 degrees of freedom

    For spectra in place of a bootstrap, which repeats rows: a spectrum of fewer different rows is steeper. Efron,
    Tibshirani 1993, chapter 11. Errors: UsageError for fewer than two groups.
    """
    from scipy.stats import t as student

    found = np.asarray(left_out, np.float64)
    n = len(found)
    _require_rows(n, "groups")
    half = float(student.ppf((1 + level) / 2, n - 1)) * float(np.sqrt((n - 1) * np.var(found)))
    return Estimate(value, value - half, value + half, level)


def welch(a: ArrayLike, b: ArrayLike) -> Welch:
    """Welch's test of the means of a (n) and b (m).

    Equals `scipy.stats.ttest_ind(a, b, equal_var=False)`. Welch 1947; Satterthwaite 1946. Errors: UsageError for
    fewer than two values on a side, or no variance at all.
    """
    from scipy.stats import t as student

    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    _require_rows(min(len(x), len(y)), "values on each side")
    u, v = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
    if not u + v > 0:
        raise UsageError("Welch's test of values that are all alike", why="neither side has a variance")
    t = float((x.mean() - y.mean()) / np.sqrt(u + v))
    freedom = float((u + v) ** 2 / (u**2 / (len(x) - 1) + v**2 / (len(y) - 1)))
    spread = float(np.sqrt((x.var(ddof=1) + y.var(ddof=1)) / 2))
    return Welch(t, freedom, float(2 * student.sf(abs(t), freedom)), float((x.mean() - y.mean()) / spread))


def auroc(
    usual: ArrayLike, other: ArrayLike, *, level: float = 0.95, resamples: int = 2000, **how: Any
) -> Estimate:
    """The area under the ROC curve of a score that shall tell two conditions apart, with its interval.

    usual  float (n)   scores of the n items in the one condition
    other  float (n)   scores of the same items in the other: an item is drawn with both

    It is P(other > usual) + P(other = usual) / 2 over all pairs of items (Mann, Whitney 1947): 1/2 tells nothing, 0
    is as good as 1 with the other sign. Exact; arguments and errors else as `bootstrap`.
    """
    return bootstrap(_area, usual, other, level=level, resamples=resamples, **how)


def _area(usual: Reals, other: Reals) -> Reals:
    from scipy.stats import rankdata

    n = other.shape[-1]
    ranks = rankdata(np.concatenate([other, usual], -1), axis=-1)[..., :n]
    found: Reals = (ranks.sum(-1) - n * (n + 1) / 2) / (n * usual.shape[-1])
    return found


def spearman(x: ArrayLike, y: ArrayLike, *, level: float = 0.95, resamples: int = 2000, **how: Any) -> Estimate:
    """Spearman's rank correlation of x (n) and y (n), ties averaged, with its bootstrap interval.

    A side that is constant has no ranks to correlate: value, low and high are then nan.
    """
    return bootstrap(_rank_correlation, x, y, level=level, resamples=resamples, **how)


def pearson(x: ArrayLike, y: ArrayLike, *, level: float = 0.95, resamples: int = 2000, **how: Any) -> Estimate:
    """Pearson's correlation of x (n) and y (n) with its bootstrap interval; point-biserial where a side is 0 or 1.

    Rows in order along a path are drawn in blocks: give `groups`. A side that is constant has no correlation:
    value, low and high are then nan.
    """
    return bootstrap(_correlation, x, y, level=level, resamples=resamples, **how)


def wilcoxon(a: ArrayLike, b: ArrayLike) -> tuple[float, float]:
    """Wilcoxon's signed-rank test of paired values a (n) and b (n), two-sided: the statistic and p.

    Equals `scipy.stats.wilcoxon(a, b)`; 0 and 1 where all pairs are equal. Errors: UsageError for fewer than two
    pairs. Wilcoxon 1945.
    """
    from scipy.stats import wilcoxon as signed_ranks

    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    _require_rows(len(x), "pairs")
    if not (x != y).any():
        return 0.0, 1.0
    found: Any = signed_ranks(x, y)
    return float(found.statistic), float(found.pvalue)


def _rank_correlation(x: Reals, y: Reals) -> Reals:
    from scipy.stats import rankdata

    return _correlation(rankdata(x, axis=-1), rankdata(y, axis=-1))


def _correlation(x: Reals, y: Reals) -> Reals:
    a, b = (r - r.mean(-1, keepdims=True) for r in (x, y))
    with np.errstate(invalid="ignore"):
        found: Reals = (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    constant = (np.ptp(x, axis=-1) == 0) | (np.ptp(y, axis=-1) == 0)  # whose mean may be rounded
    return np.where(constant, np.nan, found)


def _require_rows(n: int, what: str) -> None:
    if n < 2:
        raise UsageError(f"{n} {what} say nothing of their spread", fix="take at least two, better a hundred")
