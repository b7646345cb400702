"""Scores as charts: every value with its interval beside the intervals of its baselines."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from polykern.clustering.result import Clusters
from polykern.report.clusters.parts import rounded
from polykern.report.script import visible
from polykern.scores import baselines
from polykern.store import Store

Chart = dict[str, Any]
BESIDES = {"noise", "settings", "by"}  # said elsewhere
DRAWS = 10**8  # rows drawn for the intervals
EDGES = ("low", "high")


def computed(clusters: Clusters, store: Store, seed: int = 0) -> dict[str, Any] | None:
    """How far the clusters are of one token, or one class of photos, each, beside shuffled ones.

    clusters  a finished clustering
    store     the store it is of
    seed      of the draws behind the intervals, fewer of them for more rows

    As `polykern.scores.baselines` gives it; None where there are no clusters, tokens or classes.
    """
    if "token" not in store.columns or not clusters.count:
        return None
    classes = store.column("token")
    if not (classes != classes[0]).any():
        return None
    repeats = int(np.clip(DRAWS // len(clusters), 10, 100))
    return baselines.monosemanticity(clusters.labels, classes, repeats=repeats, seed=seed).as_dict()


def charts(found: Mapping[str, Any] | None) -> list[Chart]:
    """What the page draws of some scores.

    found  measure -> a number, or a table with `value`, its `interval` and the tables of its `baselines`; an
           interval holds `mean`, `low` and `high`. None for no scores; what is not of this form is left out

    Returns for every measure its name, value, interval, baselines and the range of its axis, 0 .. 1 where all fit.
    """
    made = [_chart(name, entry, found or {}) for name, entry in (found or {}).items() if name not in BESIDES]
    return [chart for chart in made if chart is not None]


def note(found: Mapping[str, Any] | None) -> str:
    """What the marks of the charts mean."""
    settings = (found or {}).get("settings")
    repeats = settings.get("repeats") if isinstance(settings, Mapping) else None
    told = f", {repeats} draws" if isinstance(repeats, int) else ""
    by = (found or {}).get("by")
    what = f"by {visible(by)}; " if isinstance(by, str) and by != "token" else ""
    return f"{what}dot: these clusters; rings: what chance gives; bars: 95%{told}"


def _chart(name: str, entry: Any, found: Mapping[str, Any]) -> Chart | None:
    value = entry.get("value") if isinstance(entry, Mapping) else entry
    if value is None or not _number(value):
        return None
    inner = entry.get("baselines", {}) if isinstance(entry, Mapping) else {}
    own = _interval(entry.get("interval")) if isinstance(entry, Mapping) else None
    good = {str(k): b for k, b in ((k, _interval(b)) for k, b in inner.items()) if b is not None}
    every = [float(value), *(b[e] for b in (*good.values(), own or {}) for e in EDGES if e in b)]
    low, high = min(0.0, *every), max(every)
    return {
        "name": _called(name, found),
        "value": rounded(float(value)),
        "interval": own and [rounded(own[e]) for e in EDGES],
        "baselines": [{"name": k, **{part: rounded(v) for part, v in b.items()}} for k, b in good.items()],
        "low": low,
        "high": 1.0 if high <= 1.0 else high,
    }


def _called(name: str, found: Mapping[str, Any]) -> str:
    settings = found.get("settings")
    pure = settings.get("pure") if isinstance(settings, Mapping) else None
    if name == "pure_clusters" and isinstance(pure, int | float):
        return f"at least {pure:g} pure"
    return {"mean_entropy": "mean entropy, bits", "weighted_purity": "mean purity by row"}.get(
        name, str(name).replace("_", " ")
    )


def _interval(entry: Any) -> dict[str, float] | None:
    parts = ("mean", *EDGES)
    if not isinstance(entry, Mapping) or not all(_number(entry.get(part)) for part in parts):
        return None
    return {part: float(entry[part]) for part in parts}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
