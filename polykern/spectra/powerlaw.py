"""Power laws of eigenspectra: lambda_n ~ n^-alpha over a window of ranks.

    alpha = the slope of log lambda_n against -log n by least squares with weights 1/n, ranks 11 ... 500

after Stringer et al. 2019, "High-dimensional geometry of population responses in visual cortex", whose spectra
Marshall and Kirchner 2024, "Understanding polysemanticity in neural networks through coding theory", carry over to
networks. A code of d-dimensional inputs that is differentiable has eigenvalues that fall faster than n^-(1 + 2/d).
A window of ranks is finite and cannot show that a code does so; hence there is no verdict here, only an exponent,
the bound, and on which side of it the exponent lies.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polykern.errors import UsageError

Reals = NDArray[np.float64]
FIRST, LAST = 11, 500  # ranks of the window, 1 is the largest
WINDOWS = ((5, 30), (11, 100), (11, 500), (101, 500), (11, 1000))
MARKS = 100  # ranks, evenly spaced in log n, that r2 is taken of


@dataclass(frozen=True)
class Fit:
    """A power law fitted to a window of ranks.

    alpha  exponent, positive for a spectrum that falls
    first  rank where the window begins
    last   rank where it ends
    r2     share of the variance of log lambda explained, over at most 100 ranks evenly spaced in log n
    """

    alpha: float
    first: int
    last: int
    r2: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def window(rank: int) -> tuple[int, int]:
    """The window for a spectrum of so many positive eigenvalues: 11 ... 500, or to rank / 2 where that is less.

    Errors: UsageError for a rank below 24, which leaves no window.
    """
    last = min(LAST, rank // 2)
    if last < FIRST + 1:
        raise UsageError(
            f"a spectrum of {rank} positive eigenvalues has no window of ranks to fit",
            why=f"the window begins at rank {FIRST} and ends at half the rank",
            fix="take more rows or a wider layer, or name a window",
        )
    return FIRST, last


def fit(
    spectrum: ArrayLike, first: int | None = None, last: int | None = None, *, weighted: bool = True,
    noise: float = 0.0,
) -> Fit:  # fmt: skip
    """The power law of a spectrum.

    spectrum  float (m)   eigenvalues, the largest first
    first     rank where the window begins; None: as `window` says
    last      rank where it ends, included
    weighted  weights 1/n, else all alike
    noise     variance that rounding makes up in every direction: eigenvalues below four times it are none

    Exact for n^-alpha up to the rounding of float64. Errors: UsageError where the window holds fewer than two
    positive eigenvalues.
    """
    values = np.asarray(spectrum, np.float64)
    if first is None or last is None:
        automatic = window(positive(values, noise))
        first, last = first or automatic[0], last or automatic[1]
    if not 1 <= first < last <= positive(values, noise):
        raise UsageError(
            f"no power law over ranks {first} to {last}",
            why=f"the spectrum has {positive(values, noise)} of {len(values)} eigenvalues above rounding",
            fix="name a window inside them",
        )
    n = np.arange(first, last + 1)
    x, y = -np.log(n), np.log(values[first - 1 : last])
    w = 1.0 / n if weighted else np.ones(len(n))
    w = w / w.sum()
    dx, dy = x - w @ x, y - w @ y
    alpha = float(w @ (dx * dy) / (w @ dx**2))
    return Fit(alpha, first, last, _r2(x, y, alpha))


def windows(spectrum: ArrayLike, every: Sequence[tuple[int, int]] = WINDOWS, *, noise: float = 0.0) -> list[Fit]:
    """The fits over several windows that the spectrum reaches: how far alpha hangs on them."""
    values = np.asarray(spectrum, np.float64)
    held = positive(values, noise)
    return [fit(values, first, last) for first, last in every if last <= held]


def positive(spectrum: Reals, noise: float = 0.0) -> int:
    """How many eigenvalues are above the rounding error of the largest, and above four times the noise."""
    if not len(spectrum) or not spectrum[0] > 0:
        return 0
    return int((spectrum > max(len(spectrum) * np.finfo(np.float64).eps * spectrum[0], 4 * noise)).sum())


def participation_ratio(spectrum: ArrayLike) -> float:
    """(sum of eigenvalues)^2 / sum of their squares: 1 for one direction, m for m equal ones."""
    values = np.asarray(spectrum, np.float64)
    return float(values.sum() ** 2 / (values**2).sum())


def effective_rank(spectrum: ArrayLike) -> float:
    """exp of the entropy of the normalised eigenvalues (Roy and Vetterli 2007)."""
    share = np.asarray(spectrum, np.float64)
    share = share[share > 0] / share[share > 0].sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def critical(d: float) -> float:
    """1 + 2/d: the exponent that the spectrum of a differentiable code of d-dimensional inputs stays above."""
    if not d > 0:
        raise UsageError(f"inputs have a positive dimension, got {d:g}")
    return 1 + 2 / d


def beside_bound(low: float, high: float, d: float) -> str:
    """Where an interval of alpha lies against the bound for d-dimensional inputs, and what that does not say."""
    bound = critical(d)
    if high < bound:
        place = "below"
    elif low > bound:
        place = "above"
    else:
        place = "not apart from"
    return f"{place} 1 + 2/d = {bound:.4g} for d = {d:g}, over this window of ranks; smoothness itself is not shown"


def _r2(x: Reals, y: Reals, alpha: float) -> float:
    """Of the line through the centre of some ranks evenly spaced in x."""
    some = np.unique(np.abs(x[:, None] - np.linspace(x[0], x[-1], MARKS)).argmin(0))
    a, b = x[some] - x[some].mean(), y[some] - y[some].mean()
    total = (b**2).sum()
    return float(1 - ((b - alpha * a) ** 2).sum() / total) if total > 0 else float("nan")
