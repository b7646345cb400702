"""Scores as charts: every value beside the intervals of its baselines."""

import math
from collections.abc import Mapping
from typing import Any

from polykern.report.clusters.parts import rounded

Chart = dict[str, Any]


def charts(found: Mapping[str, Any] | None) -> list[Chart]:
    """What the page draws of some scores.

    found  measure -> a number, or a table with `value` and the tables of its baselines; a baseline holds `mean`,
           `low` and `high`. None for no scores; what is not of this form is left out

    Returns for every measure its name, value, baselines and the range of its axis, which is 0 .. 1 where all fit.
    """
    made = [_chart(str(name), entry) for name, entry in (found or {}).items()]
    return [chart for chart in made if chart is not None]


def _chart(name: str, entry: Any) -> Chart | None:
    value = entry.get("value") if isinstance(entry, Mapping) else entry
    if not _number(value):
        return None
    inner = entry.get("baselines", {}) if isinstance(entry, Mapping) else {}
    baselines = [
        {"name": str(k), **{part: rounded(float(b[part])) for part in ("mean", "low", "high")}}
        for k, b in inner.items()
        if isinstance(b, Mapping) and all(_number(b.get(part)) for part in ("mean", "low", "high"))
    ]
    every = [float(value), *(b[part] for b in baselines for part in ("low", "high"))]
    low, high = min(0.0, *every), max(every)
    return {
        "name": name.replace("_", " "),
        "value": rounded(float(value)),
        "baselines": baselines,
        "low": low,
        "high": 1.0 if high <= 1.0 else high,
    }


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
