"""Panels of a figure in the house style: lines with bands, bars with intervals, points, histograms.

A panel is matplotlib's axes; matplotlib itself stays behind `polykern.report.figures`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polykern.report import colours
from polykern.report.figures import INK, QUIET
from polykern.report.script import visible

HEAD, FOOT, LEFT, RIGHT, GAP = 92, 84, 84, 28, 84  # px around and between panels
PALETTE = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#AA3377", "#66CCEE")  # Paul Tol, bright


def panels(
    figure: Any, titles: Sequence[str], *, columns: int, heading: str, subtitle: str = "", note: str = ""
) -> list[Any]:
    """Panels in rows below a heading, with a note at the foot.

    figure    an empty figure (`figures.plot`)
    titles    one a panel
    columns   panels in a row
    heading   of the figure, bold; text of strangers is made visible
    subtitle  below it: how many of what
    note      at the foot: units, what is exact, intervals
    """
    wide, high = figure.get_size_inches() * 100
    rows = -(-len(titles) // columns)
    width = (wide - LEFT - RIGHT - GAP * (columns - 1)) / columns
    height = (high - HEAD - FOOT - GAP * (rows - 1)) / rows
    found = []
    for k, title in enumerate(titles):
        row, column = divmod(k, columns)
        left, top = LEFT + (width + GAP) * column, HEAD + (height + GAP) * row
        axes = figure.add_axes((left / wide, 1 - (top + height) / high, width / wide, height / high))
        found.append(styled(axes, title))
    texts = (
        (heading, 26, 15, INK, "bold"),
        (subtitle, 52, 10, QUIET, "normal"),
        (note, high - 20, 8.5, QUIET, "normal"),
    )
    for text, y, size, colour, weight in texts:
        figure.text(
            LEFT / wide, 1 - y / high, visible(text), size=size, color=colour, weight=weight, va="center",
            parse_math=False,
        )  # fmt: skip
    return found


def styled(axes: Any, title: str = "") -> Any:
    """Axes with thin rules, a quiet grid and a title on the left."""
    axes.set_title(visible(title), loc="left", fontsize=11, color=INK, parse_math=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set(color=QUIET, linewidth=0.8)
    axes.tick_params(labelsize=9.5, color=QUIET, labelcolor=INK)
    axes.grid(visible=True, color="#e3e6ea", linewidth=0.7)
    axes.set_axisbelow(True)
    return axes


def named(axes: Any, x: str, y: str) -> None:
    """Names of the two axes, with their units."""
    axes.set_xlabel(visible(x), fontsize=10.5, color=INK, parse_math=False)
    axes.set_ylabel(visible(y), fontsize=10.5, color=INK, parse_math=False)


def legend(axes: Any, **more: Any) -> None:
    """A legend without a frame."""
    axes.legend(**({"frameon": False, "fontsize": 9.5} | more))


def line(
    axes: Any, x: ArrayLike, y: ArrayLike, *, label: str = "", colour: Any = PALETTE[0],
    low: ArrayLike | None = None, high: ArrayLike | None = None, **more: Any,
) -> None:  # fmt: skip
    """A line and, where `low` and `high` are given, the band between them."""
    axes.plot(x, y, color=colour, label=visible(label), **({"lw": 1.6} | more))
    if low is not None and high is not None:
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)


def bars(
    axes: Any,
    names: Sequence[str],
    series: Sequence[str],
    values: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> None:
    """Groups of bars with intervals.

    names   one a group; series  one a bar inside a group
    values  float64 (groups, series); low and high alike, the ends of the intervals. One that does not reach the
            value, as a percentile interval may not, ends at it on that side
    """
    wide = 0.8 / len(series)
    at = np.arange(len(names))
    for k, name in enumerate(series):
        x = at + (k - (len(series) - 1) / 2) * wide
        axes.bar(x, values[:, k], 0.92 * wide, color=PALETTE[k % len(PALETTE)], label=visible(name), zorder=2)
        error = np.stack([values[:, k] - low[:, k], high[:, k] - values[:, k]]).clip(0)
        axes.errorbar(x, values[:, k], error, fmt="none", ecolor=INK, elinewidth=1.1, capsize=3, zorder=3)
    axes.set_xticks(at, [visible(n) for n in names], parse_math=False)
    axes.grid(visible=False, axis="x")


def class_colour(index: int) -> str:
    """The colour of a class, for lines and marks."""
    return colours.CLASSES[index % len(colours.CLASSES)] if index >= 0 else colours.OTHERS
