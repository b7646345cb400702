"""PNG figures of a heat map, and plots of others; the one module that draws with matplotlib.

A figure is laid out in pixels of a 1600-pixel sheet: the map in the middle, the anchors' thumbnails in the side
margins joined to their points, a colour bar or legend below, provenance in the title and the footer.
"""

import io
import math
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from polykern.maps.result import Anchor, HeatMap
from polykern.report import colours, pictures, wording
from polykern.report.script import visible
from polykern.store.disk import put

WIDTH, SIDE, MARGIN, HEAD = 1600, 1080, 260, 100  # px: sheet, map, either side of it, above it
INK, QUIET = "#1b1f24", "#5d6570"
THUMBNAIL = 170  # px


def write(result: HeatMap, folder: Path) -> list[Path]:
    """density.png, boundaries.png and, where measured, classes.png and margin.png in `folder`.

    result  an opened heat map
    folder  made when it is not there; files of the same names are replaced

    Returns the files written. Maps are reduced to about 1,100 pixels a side before they are drawn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted: list[tuple[str, Callable[[HeatMap], Any]]] = [
        ("density.png", _density),
        ("boundaries.png", _boundaries),
    ]
    if result.classes is not None:
        wanted.append(("classes.png", _classes))
    if result.margin is not None:
        wanted.append(("margin.png", _margin))
    return [_saved(folder / name, partial(draw, result)) for name, draw in wanted]


def plot(path: Path, width: int, height: int, draw: Callable[[Any], None]) -> Path:
    """A PNG of width x height px that `draw` fills: it is given an empty matplotlib figure of 100 px an inch.

    path  replaced when it is there; its folder is made

    Returns the file written. The user's matplotlib settings have no influence.
    """

    def drawn() -> Any:
        figure = _blank(width, height)
        draw(figure)
        return figure

    path.parent.mkdir(parents=True, exist_ok=True)
    return _saved(path, drawn)


def _saved(path: Path, draw: Callable[[], Any]) -> Path:
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        return _put(path, draw())


def _put(path: Path, figure: Any) -> Path:
    """Write a figure as a PNG file that is there whole or not at all."""
    png = io.BytesIO()
    figure.savefig(png, format="png", metadata={"Software": "polykern"})
    put(path, [png.getbuffer()])
    return path


def _blank(width: int, height: int, dpi: int = 100) -> Any:
    """An empty figure of width x height hundredths of an inch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 100, height / 100), dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


class _Sheet:
    """A figure with title, footer, map axes and the marks every map carries."""

    def __init__(self, result: HeatMap, title: str, legend_height: int) -> None:
        self.result = result
        self.height = HEAD + SIDE + 24 + legend_height + 66
        self.figure = _blank(WIDTH, self.height)
        self.map = self.axes(MARGIN, HEAD, SIDE, SIDE)
        cells = result.resolution - 1
        self.map.set(xlim=(0, cells), ylim=(cells, 0), xticks=[], yticks=[])
        self.text(MARGIN, 34, title, size=17, weight="bold")
        self.text(MARGIN, 68, wording.subtitle(result), size=10.5, color=QUIET)
        for k, line in enumerate(wording.footer(result)):
            self.text(MARGIN, self.height - 42 + 20 * k, line, size=8.5, color=QUIET)

    def axes(self, x: float, y: float, width: float, height: float) -> Any:
        """Axes at (x, y) px from the upper left corner."""
        h = self.height
        return self.figure.add_axes((x / WIDTH, 1 - (y + height) / h, width / WIDTH, height / h))

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        style = {"color": INK, "va": "center", "parse_math": False} | style
        self.figure.text(x / WIDTH, 1 - y / self.height, text, **style)

    def image(self, values: NDArray[Any], block: int, offset: float = 0, **style: Any) -> Any:
        """`values` over the map; `offset` is the pixel coordinate of their corner."""
        tall, wide = values.shape[:2]
        extent = (offset, offset + wide * block, offset + tall * block, offset)
        small = 3 * wide < SIDE
        shown = self.map.imshow(values, extent=extent, interpolation="nearest" if small else "auto", **style)
        cells = self.result.resolution - 1
        self.map.set(xlim=(0, cells), ylim=(cells, 0), aspect="equal")
        return shown

    def bar(self, shown: Any, field: pictures.Field, label: str) -> Any:
        """A horizontal colour bar below the map; pointed where values were clipped."""
        below, above = field.values.min() < field.low, field.values.max() > field.high
        extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}
        axes = self.axes(MARGIN, HEAD + SIDE + 24, SIDE, 18)
        drawn = self.figure.colorbar(
            shown, cax=axes, orientation="horizontal", extend=extend[int(below), int(above)]
        )
        drawn.outline.set_linewidth(0.5)
        axes.tick_params(labelsize=10, color=QUIET, labelcolor=INK)
        axes.set_xlabel(label, fontsize=11, color=INK)
        return axes

    def legend(self, entries: list[tuple[str, tuple[float, float, float]]], note: str) -> None:
        """Named colours in columns below the map, then what was done."""
        from matplotlib.patches import Rectangle

        columns, top = _columns(len(entries)), HEAD + SIDE + 36
        rows = -(-len(entries) // columns)
        for k, (name, colour) in enumerate(entries):
            x, y = MARGIN + SIDE / columns * (k // rows), top + 22 * (k % rows)
            corner = (x / WIDTH, 1 - (y + 7) / self.height)
            size = 14 / WIDTH, 14 / self.height
            self.figure.add_artist(Rectangle(corner, *size, facecolor=colour))
            self.text(x + 22, y, wording.short(name, 132 // columns), size=9.5)
        self.text(MARGIN, top + 22 * rows + 2, note, size=9, color=QUIET)

    def marks(self, ink: str = "white", around: str = "black") -> None:
        """Triangle, crosshairs, thumbnails and the scale bar, in `ink` with a halo `around` it."""
        from matplotlib import patheffects as effects

        self.ink, self.halo = ink, [effects.withStroke(linewidth=3.5, foreground=around, alpha=0.65)]
        anchors = self.result.anchors
        corners = [(a.column, a.row) for a in (*anchors, anchors[0])]
        self.map.plot(
            *zip(*corners, strict=True),
            "--",
            color=self.ink,
            lw=1.1,
            dashes=(5, 4),
            path_effects=self.halo,
        )
        cells = self.result.resolution - 1
        for a, letter in zip(anchors, "ABC", strict=True):
            if not (0 <= a.row <= cells and 0 <= a.column <= cells):
                continue
            self.map.plot(a.column, a.row, "+", ms=19, mew=1.8, color=self.ink, path_effects=self.halo)
            offset = (9, 8) if a.column < 0.96 * cells else (-9, 8)
            self.map.annotate(
                letter, (a.column, a.row), offset, textcoords="offset points", size=12, color=self.ink,
                weight="bold", ha="left" if offset[0] > 0 else "right", path_effects=self.halo,
            )  # fmt: skip
        self._scale_bar()
        for left in (True, False):
            self._thumbnails(left)

    def _scale_bar(self) -> None:
        cells, step = self.result.resolution - 1, self.result.step
        length = nice(0.2 * cells * step)
        right, y = 0.97 * cells, 0.965 * cells
        left = right - length / step
        ends = cells * 0.006
        for x, height in (([left, right], [y, y]), *(([e, e], [y - ends, y + ends]) for e in (left, right))):
            self.map.plot(x, height, color=self.ink, lw=2, path_effects=self.halo)
        self.map.annotate(
            f"{length:g} L2", ((left + right) / 2, y), (0, 8), textcoords="offset points", size=11,
            color=self.ink, ha="center", path_effects=self.halo,
        )  # fmt: skip

    def _thumbnails(self, left: bool) -> None:
        """The anchors of one half of the map in that margin, spread so that none overlap."""
        cells = self.result.resolution - 1
        here = [
            (a, letter)
            for a, letter in zip(self.result.anchors, "ABC", strict=True)
            if (a.column < cells / 2) is left
        ]
        here.sort(key=lambda pair: pair[0].row)
        taken, room = float(HEAD), THUMBNAIL + 90
        for k, (a, letter) in enumerate(here):
            last = HEAD + SIDE - room * (len(here) - k)
            y = min(max(taken, HEAD + SIDE * a.row / cells - THUMBNAIL / 2), last)
            taken = y + room
            x = 30 if left else WIDTH - 30 - THUMBNAIL
            self._thumbnail(a, letter, x, y, left)

    def _thumbnail(self, a: Anchor, letter: str, x: float, y: float, left: bool) -> None:
        cells = self.result.resolution - 1
        picture = pictures.thumbnail(a.thumbnail, 2 * THUMBNAIL)
        if picture is not None:
            axes = self.axes(x, y, THUMBNAIL, THUMBNAIL)
            axes.imshow(picture)
            axes.set(xticks=[], yticks=[])
            axes.set_anchor("S")
        inside = 0 <= a.row <= cells and 0 <= a.column <= cells
        name = "" if a.class_ is None else wording.short(visible(self.result.class_name(a.class_)), 22)
        lines = [
            letter if a.label == letter else f"{letter}  {wording.short(visible(a.label), 17)}",
            name,
            "" if inside else "(outside the window)",
        ]
        for k, line in enumerate(filter(None, lines)):
            style = {"weight": "bold"} if k == 0 else {"color": QUIET}
            self.text(x, y + THUMBNAIL + 16 + 20 * k, line, size=10.5, **style)
        if inside:
            side = x + (THUMBNAIL + 8 if left else -8), y + THUMBNAIL / 2
            point = MARGIN + SIDE * a.column / cells, HEAD + SIDE * a.row / cells
            self._connect(side, point)

    def _connect(self, thumbnail: tuple[float, float], point: tuple[float, float]) -> None:
        """A thin line from a thumbnail to its point, both in px; it stops at the crosshair."""
        from matplotlib.lines import Line2D

        length = math.dist(thumbnail, point)
        edge = MARGIN if thumbnail[0] < MARGIN else MARGIN + SIDE
        border = (edge - thumbnail[0]) / (point[0] - thumbnail[0])
        for first, last, colour in ((0.0, border, QUIET), (border, 1 - 16 / length, self.ink)):
            if last <= first:
                continue
            ends = [[p + t * (q - p) for t in (first, last)] for p, q in zip(thumbnail, point, strict=True)]
            xs, ys = [x / WIDTH for x in ends[0]], [1 - y / self.height for y in ends[1]]
            self.figure.add_artist(Line2D(xs, ys, color=colour, lw=0.9, alpha=0.9))


def _density(result: HeatMap) -> Any:
    field = pictures.density(result, SIDE)
    sheet = _Sheet(result, f"Polytope density: {wording.short(wording.name(result), 60)}", 74)
    shown = sheet.image(field.values, field.block, cmap=_map("inferno"), vmin=field.low, vmax=_above(field))
    axes = sheet.bar(shown, field, "polytope boundaries per unit L2")
    mean = result.provenance.get("density", {}).get("mean")
    mean = float(mean if isinstance(mean, int | float) else field.values.mean())
    if field.low < mean < field.high:
        axes.axvline(mean, color="white", lw=2.2)
        axes.axvline(mean, color="black", lw=0.9)
        axes.annotate(
            "mean", (mean, 1), (0, 2), xycoords=("data", "axes fraction"), size=9, ha="center",
            textcoords="offset points", color=INK,
        )  # fmt: skip
    sheet.marks()
    return sheet.figure


def _boundaries(result: HeatMap) -> Any:
    picture = pictures.boundaries(result, SIDE)
    sheet = _coloured(result, "Polytope boundaries by layer", picture, 0)
    sheet.marks(INK, "white")
    return sheet.figure


def _classes(result: HeatMap) -> Any:
    picture = pictures.classes(result, SIDE)
    sheet = _coloured(result, "Classes", picture, -0.5)
    sheet.marks()
    for row, column, name in picture.labels:
        sheet.map.text(
            column, row, wording.short(visible(name), 28), color="white", size=10.5, ha="center",
            va="center", path_effects=sheet.halo, parse_math=False,
        )  # fmt: skip
    return sheet.figure


def _coloured(result: HeatMap, title: str, picture: pictures.Coloured, offset: float) -> _Sheet:
    rows = -(-len(picture.legend) // _columns(len(picture.legend)))
    sheet = _Sheet(result, f"{title}: {wording.short(wording.name(result), 60)}", 44 + 22 * rows)
    sheet.image(picture.pixels, picture.block, offset)
    sheet.legend([(visible(name), c) for name, c in picture.legend], picture.note)
    return sheet


def _margin(result: HeatMap) -> Any:
    field = pictures.margin(result, SIDE)
    sheet = _Sheet(result, f"Distance to the nearest threshold: {wording.short(wording.name(result), 50)}", 74)
    shown = sheet.image(field.values, field.block, -0.5, cmap=_map("cividis"), vmin=field.low, vmax=_above(field))
    kind = visible(str(result.provenance.get("arithmetic", {}).get("margin", "computed")))
    sheet.bar(shown, field, f"log10 of the smallest |pre-activation - threshold| ({kind})")
    sheet.marks()
    return sheet.figure


def nice(length: float) -> float:
    """The largest of 1, 2, 5 times a power of ten not above `length`."""
    power = 10.0 ** math.floor(math.log10(length))
    return max(k * power for k in (1, 2, 5) if k * power <= length * (1 + 1e-12))


def _columns(entries: int) -> int:
    return 4 if entries > 3 else 3


def _above(field: pictures.Field) -> float:
    return field.high if field.high > field.low else field.low + 1.0


def _map(name: str) -> Any:
    from matplotlib.colors import ListedColormap

    return ListedColormap(colours.table(name) / 255, name=name)


def partition(
    path: Path,
    title: str,
    subtitle: str,
    note: str,
    window: tuple[float, float, float],
    polygons: list[NDArray[Any]],
    fills: NDArray[Any],
    sides: NDArray[Any],
    strokes: NDArray[Any],
    heavy: NDArray[Any],
    legend: list[tuple[str, tuple[float, float, float]]],
) -> None:
    """A PNG of polygons, float (corners, 2) each, and of sides, float (m, 2, 2), in their colours; v goes down.

    Sides that are `heavy`, bool (m), are drawn over the others and twice as wide.
    """
    from matplotlib.collections import LineCollection, PolyCollection
    from matplotlib.lines import Line2D

    def drawn() -> Any:
        figure = _blank(1160, 1260, dpi=120)
        axes = figure.add_axes((0.075, 0.1, 0.9, 0.9 * 11.6 / 12.6))
        fine = max(0.15, min(0.9, 60 / math.sqrt(len(polygons) + 1)))
        axes.add_collection(PolyCollection(polygons, facecolors=fills, edgecolors="none", antialiased=False))
        for some, width in ((~heavy, fine), (heavy, max(0.6, 2 * fine))):
            axes.add_collection(LineCollection(list(sides[some]), colors=strokes[some], linewidths=width))
        u, v, side = window
        axes.set(xlim=(u, u + side), ylim=(v + side, v), aspect="equal", xlabel="u (L2)", ylabel="v (L2)")
        figure.text(0.075, 0.975, title, size=15, weight="bold", color=INK, parse_math=False)
        figure.text(0.075, 0.955, subtitle, size=10, color=QUIET, parse_math=False)
        figure.text(0.075, 0.018, note, size=8.5, color=QUIET, parse_math=False)
        if legend:
            marks = [Line2D([], [], color=colour, lw=3) for _, colour in legend]
            names = [wording.short(name, 28) for name, _ in legend]
            figure.legend(
                marks, names, loc="lower left", bbox_to_anchor=(0.07, 0.03), ncols=6, fontsize=9, frameon=False
            )
        return figure

    _saved(path, drawn)
