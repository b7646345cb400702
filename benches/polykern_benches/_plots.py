"""Pictures of a run: its points under the measured roofs, and its times against the sizes.

The roofline (Williams, Waterman, Patterson 2009): operations a second against operations a compulsory byte, under
intensity x bytes a second and under the rate of the units.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from polykern.report.figures import plot
from polykern_benches._document import Document, measured
from polykern_benches._shown import PREFIXES
from polykern_benches._work import ceiling

Record = dict[str, Any]
WIDTH, HEIGHT = 1600, 900  # px
# Okabe and Ito: told apart with any colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
INK, QUIET = "#1b1f24", "#5d6570"
# work of a roofline -> the unit on its axis, and how many of it one is: words and pairs of bits share a picture
DRAWN = {
    "words": ("bit pairs", 32),
    "bit pairs": ("bit pairs", 1),
    "float64": ("float64", 1),
    "float32": ("float32", 1),
}
AXIS = {"bit pairs": "pairs of bits compared", "float64": "float64 operations", "float32": "float32 operations"}
LENGTHS, WIDTHS = (
    ("n", "rows", "resolution", "side"),
    ("bits", "words", "columns", "units"),
)  # of a problem, of a row
TIED = ("m", "asking")  # sizes that follow n


def write(whole: Document, folder: Path) -> list[Path]:
    """roofline.png and scaling.png of a run in `folder`; what has nothing to show is left out."""
    wanted: list[tuple[str, Callable[[Any], None]]] = []
    if points := _points(whole):
        wanted.append(("roofline.png", partial(_roofline, whole, points)))
    if series := _series(whole):
        wanted.append(("scaling.png", partial(_scaling, whole, series)))
    return [plot(folder / name, WIDTH, HEIGHT, draw) for name, draw in wanted]


# --- the roofline --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Point:
    """One record under a roof: operations a byte, and operations a second."""

    record: Record
    unit: str
    intensity: float
    rate: float


def _points(whole: Document) -> list[Point]:
    found = []
    for record in measured(whole):
        work = record.get("work") or {}
        unit = next((u for u in DRAWN if u in work), None)
        if unit is not None and work.get("bytes"):
            axis, each = DRAWN[unit]
            done = each * work[unit]
            found.append(Point(record, axis, done / work["bytes"], done / record["median_ms"] * 1e3))
    return found


def _roofline(whole: Document, points: Sequence[Point], figure: Any) -> None:
    units = list(dict.fromkeys(p.unit for p in points))
    panels = _sheet(figure, whole, "Rates under the measured ceilings", len(units))
    styles = _styles(p.record for p in points)
    for axes, unit in zip(panels, units, strict=True):
        here = [p for p in points if p.unit == unit]
        axes.set(
            xscale="log", yscale="log", xlabel=f"{AXIS[unit]}, a compulsory byte", ylabel=f"{AXIS[unit]}, a second"
        )
        for p in here:
            _mark(axes, p.intensity, p.rate, styles[_series_name(p.record)], p.record["peer"])
        _roofs(axes, whole, unit, here)
        _spelled(axes.xaxis)
        _spelled(axes.yaxis)
    _legend(figure, styles)


def _roofs(axes: Any, whole: Document, unit: str, points: Sequence[Point]) -> None:
    """The slope of the memory and the level of every unit that counts here, each with its rate."""
    moved = ceiling("bytes", whole["ceilings"])
    levels = {
        u: DRAWN[u][1] * rate for u in DRAWN if DRAWN[u][0] == unit and (rate := ceiling(u, whole["ceilings"]))
    }
    left, right = min(p.intensity for p in points) / 3, max(p.intensity for p in points) * 3
    top = max(levels.values(), default=max(p.rate for p in points))
    if moved:
        right = max(right, 3 * top / moved)
        axes.plot([left, top / moved], [left * moved, top], color=QUIET, lw=1.5, zorder=1)
        axes.annotate(
            f"memory {_rate(moved)}B/s", (left, left * moved), (8, -2), textcoords="offset points", size=10,
            color=QUIET, va="top",
        )  # fmt: skip
    for u, level in levels.items():
        start = level / moved if moved else left
        axes.plot([start, right], [level, level], color=QUIET, lw=1.5, zorder=1)
        axes.annotate(
            f"{u} {_rate(level)}/s", (right, level), (-4, 5), textcoords="offset points", size=10, color=QUIET,
            ha="right",
        )  # fmt: skip
    low = min([p.rate for p in points] + ([left * moved] if moved else []))
    axes.set(xlim=(left, right), ylim=(low / 3, 3 * top))


# --- time against size ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Series:
    """The times, ms, of one operation in one way against one size, the others fixed."""

    name: str
    fixed: str
    peer: bool
    sizes: list[float]
    times: list[float]


def _series(whole: Document) -> dict[str, list[Series]]:
    """Axis -> series of at least two sizes: "n" of a problem, "bits" of a row."""
    found = {"n": _along(whole, LENGTHS, TIED), "bits": _along(whole, WIDTHS, ())}
    return {axis: series for axis, series in found.items() if series}


def _along(whole: Document, keys: Sequence[str], tied: Sequence[str]) -> list[Series]:
    groups: dict[tuple[str, ...], list[tuple[float, float, Record]]] = {}
    for record in measured(whole):
        params = record["params"]
        key = next((k for k in keys if k in params), None)
        if key is None:
            continue
        fixed = ", ".join(f"{k} {_number(v)}" for k, v in params.items() if k != key and k not in tied)
        size = float(params[key]) * (32 if key == "words" else 1)
        group = _series_name(record), record["dtype"], fixed
        groups.setdefault(group, []).append((size, record["median_ms"], record))
    series = []
    for (name, _, fixed), members in groups.items():
        at = sorted((size, ms) for size, ms, _ in members)
        if len({size for size, _ in at}) > 1:
            series.append(Series(name, fixed, members[0][2]["peer"], [x for x, _ in at], [y for _, y in at]))
    return series


def _scaling(whole: Document, series: dict[str, list[Series]], figure: Any) -> None:
    panels = _sheet(figure, whole, "Time against size", len(series))
    names = list(dict.fromkeys((s.name, s.fixed) for part in series.values() for s in part))
    colours = {name: (COLOURS[k % len(COLOURS)], MARKS[k % len(MARKS)]) for k, name in enumerate(names)}
    for axes, (axis, part) in zip(panels, series.items(), strict=True):
        label = "rows, or pixels a side" if axis == "n" else "bits, or numbers, of a row"
        axes.set(xscale="log", yscale="log", xlabel=label, ylabel="seconds")
        for s in part:
            colour, mark = colours[s.name, s.fixed]
            axes.plot(
                s.sizes, [ms / 1e3 for ms in s.times], marker=mark, color=colour, ms=7, lw=1.4,
                ls="--" if s.peer else "-", markerfacecolor="none" if s.peer else colour,
            )  # fmt: skip
        axes.margins(0.12)
        _guide(axes, part, 2 if axis == "n" else 1)
        _spelled(axes.xaxis)
        _spelled(axes.yaxis)
    labels = {f"{name}\n{fixed}" if fixed else name: style for (name, fixed), style in colours.items()}
    _legend(figure, labels)


def _guide(axes: Any, series: Sequence[Series], power: int) -> None:
    """A dotted line that grows with a power of the size, below the lowest series."""
    left, right = (f(x for s in series for x in s.sizes) for f in (min, max))
    low = min(ms / 1e3 for s in series for ms in s.times) / 2
    axes.plot([left, right], [low, low * (right / left) ** power], ":", color=QUIET, lw=1.3)
    axes.annotate(
        f"size^{power}" if power > 1 else "size", (left, low), (0, -6), textcoords="offset points", size=10,
        color=QUIET, va="top", ha="center",
    )  # fmt: skip


# --- what both share -----------------------------------------------------------------------------


def _sheet(figure: Any, whole: Document, title: str, panels: int) -> list[Any]:
    """Panels side by side, the legend's column to their right, title above and provenance below."""
    env, left, right = whole["env"], 0.06, 0.74
    gap = 0.065
    width = (right - left - gap * (panels - 1)) / panels
    gpu = (env.get("gpu") or {}).get("name")
    machine = (
        gpu
        if whole["device"] == "cuda"
        else f"{env.get('cpu')}, {env.get('threads')} thread{'' if env.get('threads') == 1 else 's'}"
    )
    figure.text(
        left, 0.955, f"{title}: {machine}", size=17, weight="bold", color=INK, va="center", parse_math=False
    )
    told = [f"polykern {whole.get('polykern')}", str(whole.get("git") or "no commit")[:12], whole["created"]]
    told += ["toy sizes: the numbers mean nothing"] if whole["small"] else []
    figure.text(left, 0.025, "   ".join(told), size=9, color=QUIET, va="center", parse_math=False)
    found = []
    for k in range(panels):
        axes = figure.add_axes((left + k * (width + gap), 0.12, width, 0.78))
        axes.grid(True, which="major", color="#e4e7eb", lw=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=10, color=QUIET, labelcolor=INK)
        found.append(axes)
    return found


def _series_name(record: Record) -> str:
    return f"{record['case']}, {record['backend']}"


def _styles(records: Iterable[Record]) -> dict[str, tuple[str, str]]:
    names = dict.fromkeys(_series_name(record) for record in records)
    return {name: (COLOURS[k % len(COLOURS)], MARKS[k % len(MARKS)]) for k, name in enumerate(names)}


def _mark(axes: Any, x: float, y: float, style: tuple[str, str], hollow: bool) -> None:
    colour, mark = style
    face = "none" if hollow else colour
    axes.plot([x], [y], mark, color=colour, markerfacecolor=face, ms=8, mew=1.4, ls="none", zorder=3)


def _legend(figure: Any, styles: dict[str, tuple[str, str]]) -> None:
    """Names beside the panels, a column as long as it must be."""
    step = min(0.045, 0.82 / max(1, len(styles)))
    axes = figure.add_axes((0.755, 0.0, 0.24, 1.0))
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_axis_off()
    for k, (name, (colour, mark)) in enumerate(styles.items()):
        y = 0.885 - k * step
        axes.plot([0.03], [y], mark, color=colour, ms=7)
        axes.text(0.07, y, name, size=9, color=INK, va="center", parse_math=False)


def _spelled(axis: Any) -> None:
    """Ticks as numbers with a prefix; those between powers of ten where there is room for them."""

    def minor(x: float, _: int) -> str:
        low, high = axis.get_view_interval()
        return _rate(x).strip() if high < 1e3 * low and _leading(x) in (2, 5) else ""

    axis.set_major_formatter(lambda x, _: _rate(x).strip())
    axis.set_minor_formatter(minor)


def _leading(x: float) -> int:
    """The first digit of a number above 0."""
    return round(x / 10.0 ** math.floor(math.log10(x) + 1e-9))


def _rate(x: float) -> str:
    scale, prefix = next(((s, p) for s, p in PREFIXES if x >= s * 0.9995), (1.0, ""))
    return f"{x / scale:.3g} {prefix}"


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
