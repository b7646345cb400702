"""The figures of directions: cosines by cluster, purity, boundaries, values on a line, dictionaries, steering."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from polykern import statistics
from polykern.findings import Picture
from polykern.report import charts, colours

if TYPE_CHECKING:
    from polykern.factors.result import Directions, Family

SHOWN = 6  # directions
COLOURED = 11  # clusters with a colour of their own; smaller ones are left out
BINS = 24
NEAREST = 0.05  # share of the clustered rows whose cosines are drawn
NAMES = {"nmf": "NMF", "pca": "PCA", "boolean": "unions", "topk": "top-k", "kmeans": "k-means"}


def cosines(found: "Directions") -> Picture:
    """Histograms of the largest cosines with directions of the first family, coloured by cluster."""

    def draw(figure: Any) -> None:
        family = found.families[0]
        order = np.argsort(-family.clustered.purity, kind="stable")
        shown = order[np.unique(np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int))]
        titles = [_title(family, k) for k in shown]
        axes = charts.panels(
            figure, titles, columns=3,
            heading=f"{NAMES.get(family.name, family.name)} directions and clusters of codes: {_layer(found)}",
            subtitle=f"{len(found.labels):,} rows, {found.labels.max() + 1} clusters, "
            f"{(found.labels < 0).mean():.0%} noise left out; from the purest direction to the least pure",
            note=f"Largest {NEAREST:.0%} of the cosines with clustered rows, stacked by cluster; clusters smaller "
            f"than the {COLOURED} largest are left out",
        )  # fmt: skip
        sizes = np.bincount(found.labels[found.labels >= 0])
        large = np.argsort(-sizes, kind="stable")[:COLOURED]
        for panel, k in zip(axes, shown, strict=True):
            _histogram(panel, family.cosines[:, k], found.labels, large)

    return Picture(1500, 900, draw)


def _histogram(panel: Any, near: NDArray[np.float64], labels: NDArray[np.int64], large: NDArray[np.int64]) -> None:
    kept = np.flatnonzero(labels >= 0)
    most = max(10, round(NEAREST * len(kept)))
    kept = kept[np.argsort(-near[kept], kind="stable")[:most]]
    parts = [(c, near[kept[labels[kept] == c]]) for c in large]
    parts = [(c, x) for c, x in parts if len(x)]
    edges = np.linspace(near[kept].min(), near[kept].max() + 1e-9, BINS)
    if parts:
        shades = [charts.class_colour(int(c)) for c, _ in parts]
        names = [f"cluster {c}" for c, _ in parts]
        panel.hist([x for _, x in parts], edges, stacked=True, color=shades, label=names)
    charts.named(panel, "cosine", "rows")
    high = panel.get_ylim()[1]
    panel.set_ylim(0, high * 1.35)
    charts.legend(panel, fontsize=7.5, ncols=3, loc="upper left")


def purity(found: "Directions") -> Picture:
    """Median purity of each family, with intervals, beside chance."""

    def draw(figure: Any) -> None:
        kinds = [
            ("clustered", "Clusters of codes, noise left out"),
            ("everything", "Clusters of codes, noise among the rows"),
        ]
        if found.classes is not None:
            kinds.append(("classes", "Classes of the examples"))
        axes = charts.panels(
            figure, [title for _, title in kinds], columns=len(kinds),
            heading=f"How pure the nearest {found.about['settings']['top']:.0%} of rows are: {_layer(found)}",
            subtitle="Median over directions of the share of nearest rows in their commonest cluster or class",
            note="Whiskers: 99% bootstrap interval over directions. Black bars: 99th percentile of the median with "
            "permuted labels. Places of one example are not independent; neurons and random directions share that",
        )  # fmt: skip
        for panel, (kind, _) in zip(axes, kinds, strict=True):
            scores = [getattr(f, kind) for f in found.families]
            ends = [np.array([[getattr(s.median, end)] for s in scores]) for end in ("value", "low", "high")]
            charts.bars(panel, [NAMES.get(f.name, f.name) for f in found.families], [""], *ends)
            for k, s in enumerate(scores):
                panel.plot([k - 0.45, k + 0.45], [s.chance] * 2, color="black", lw=2.2, zorder=4)
            panel.set_ylim(0, 1.05)
            charts.named(panel, "", "median purity")

    return Picture(1500, 620, draw)


def boundaries(found: "Directions") -> Picture:
    """Purity of directions against the boundaries they cross."""

    def draw(figure: Any) -> None:
        (panel,) = charts.panels(
            figure, [""], columns=1, heading=f"Boundaries that directions cross: {_layer(found)}",
            subtitle=f"Along mean + t h within the range of the rows; {found.units} units",
            note="One mark a direction; counts are exact. Purity: share of the nearest clustered rows in their "
            "commonest cluster",
        )  # fmt: skip
        for k, f in enumerate(found.families):
            label = f"{NAMES.get(f.name, f.name)}: {f.crossed.mean():.1f} boundaries on average"
            panel.plot(f.crossed, f.clustered.purity, "o", ms=6, alpha=0.75, color=charts.PALETTE[k], label=label)
        charts.named(panel, "boundaries of the layer's units crossed", "purity")
        panel.set(ylim=(0, 1.32), yticks=np.arange(0, 1.01, 0.2))
        charts.legend(panel, loc="upper right", ncols=2)

    return Picture(1000, 680, draw)


def line(found: "Directions") -> Picture:
    """Purity of intervals of a direction's values beside that of clusters of codes, above what chance gives."""

    def draw(figure: Any) -> None:
        (panel,) = charts.panels(
            figure, [""], columns=1, heading=f"A direction's values or clusters of codes: {_layer(found)}",
            subtitle="Mean purity by class less that of shuffled classes; clustered rows among the strongest 10%",
            note="One mark a direction; the same rows for both, and as many best intervals as there are clusters",
        )  # fmt: skip
        for k, f in enumerate(found.families):
            x, y = f.above_chance.T
            label = f"{NAMES.get(f.name, f.name)}: codes purer in {(y > x).sum()} of {len(x)}"
            panel.plot(x, y, "o", ms=6, alpha=0.75, color=charts.PALETTE[k], label=label)
        panel.plot([-0.3, 1], [-0.3, 1], color=colours.OTHERS, lw=1.2, zorder=1)
        panel.set(xlim=(-0.3, 1), ylim=(-0.3, 1))
        charts.named(
            panel, "intervals of the values, purity above chance", "clusters of codes, purity above chance"
        )
        charts.legend(panel, loc="lower right")

    return Picture(900, 820, draw)


def held_out(found: "Directions") -> Picture:
    """Held-out error of dictionaries."""

    def draw(figure: Any) -> None:
        names = [NAMES.get(s.method, s.method) + f" {s.features}" for _, s in found.dictionaries]
        estimates = [statistics.mean(s.errors, seed=found.seed) for _, s in found.dictionaries]
        ends = [np.array([[getattr(e, end)] for e in estimates]) for end in ("value", "low", "high")]
        (panel,) = charts.panels(
            figure, [""], columns=1, heading=f"Dictionaries of codes: {_layer(found)}",
            subtitle=f"Wrong bits a row of {found.units:,}, on examples they were not learned on",
            note="With the number of features; 99% intervals. NMF, PCA and top-k encode with real numbers",
        )  # fmt: skip
        charts.bars(panel, names, [""], *ends)
        charts.named(panel, "", "wrong bits a row")

    return Picture(1100, 640, draw)


def masks(found: "Directions") -> Picture:
    """Change of a class's logit under its mask and under random ones, class by class."""

    def draw(figure: Any) -> None:
        titles = [f"tau = {s.tau:g}: {s.bits.mean():.0f} bits a class" for s in found.steered]
        axes = charts.panels(
            figure, titles, columns=len(titles), heading=f"Masks of classes forced: {found.about['model']['name']}",
            subtitle="Change of the class's logit, mean over examples of other classes that no mask was made from",
            note="Effect: mean change beyond that of random masks of equal size, 99% bootstrap interval",
        )  # fmt: skip
        for panel, s in zip(axes, found.steered, strict=True):
            at = np.arange(len(s.classes))
            panel.bar(at - 0.2, s.change, 0.38, color=charts.PALETTE[0], label="its own mask", zorder=2)
            panel.bar(at + 0.2, s.random, 0.38, color=charts.PALETTE[3], label="random masks", zorder=2)
            panel.set_xticks(at, s.classes, parse_math=False)
            panel.axhline(0, color="black", lw=0.8)
            low, high = panel.get_ylim()
            panel.set_ylim(low, high + 0.35 * (high - low))
            charts.named(panel, "class", "change of its logit")
            charts.legend(panel, loc="upper left", title=f"effect {s.effect}", alignment="left")

    return Picture(1500, 560, draw)


def _title(family: "Family", k: int) -> str:
    c = family.clustered
    by_class = "" if family.classes is None else f", class {family.classes.purity[k]:.2f}"
    return f"{NAMES.get(family.name, family.name)} {k}: purity {c.purity[k]:.2f}{by_class}"


def _layer(found: "Directions") -> str:
    return f"{found.about['model']['name']}, {found.about['settings']['layer']}"
