"""What pictures and pages say: where a heat map comes from, names made short."""

from collections.abc import Sequence

from polykern.maps.result import HeatMap
from polykern.report.script import visible


def subtitle(result: HeatMap) -> str:
    """Start, stop, bits, resolution, step and smoothing, in one line."""
    model, n = result.provenance["model"], result.resolution
    stop = f" to {visible(str(model['stop']))}" if model.get("stop") else " to the output"
    bits = f"{model['bits']:,} bits · " if isinstance(model.get("bits"), int) else ""
    start = short(visible(str(model.get("start") or "the input")), 40)
    sigma = result.provenance.get("smoothing", {}).get("sigma")
    smooth = f" · Gaussian sigma {sigma:g} px" if isinstance(sigma, int | float) else ""
    return f"from {start}{stop} · {bits}{n} x {n} pixels, {result.step:.4g} L2 apart{smooth}"


def footer(result: HeatMap) -> list[str]:
    """Engine, audit, seed, weights and version, in two lines."""
    p = result.provenance
    arithmetic = p.get("arithmetic", {})
    first = f"engine {arithmetic.get('engine', '?')} ({arithmetic.get('dtype', '?')}) · {audit(result)}"
    version = p.get("versions", {}).get("polykern", "?")
    weights = str(p["model"].get("weights", "?"))[:16]
    second = f"seed {p.get('seed')} · weights {weights} · polykern {version}"
    return [short(visible(first), 190), short(visible(second), 190)]


def audit(result: HeatMap) -> str:
    """How far the map's codes are from those in float64, in words."""
    found = result.provenance.get("audit", {})
    if not isinstance(found.get("bits"), int):
        return "not audited"
    words = (
        f"audit in float64: {_said(found.get('wrong_bits'))} wrong of {found['bits']:,} bits at "
        f"{_said(found.get('points'))} points"
    )
    error = found.get("density_relative_error")
    return words if error is None else f"{words}, relative error of the density {_said(error)}"


def rows(result: HeatMap) -> list[tuple[str, str]]:
    """Everything a reader needs to trust or repeat the map, as (what, value), fit to be seen."""
    p = result.provenance
    model, arithmetic = p["model"], p.get("arithmetic", {})
    density, polytopes = p.get("density", {}), p.get("polytopes", {})
    found = [
        ("model", model["name"]),
        ("weights", model.get("weights")),
        ("codes", subtitle(result)),
        ("note", model.get("note")),
        ("engine", _joined(arithmetic, "engine", "dtype", "reason")),
        ("margin", arithmetic.get("margin")),
        ("audit", audit(result).removeprefix("audit ")),
        ("density per unit L2", _listed(density, "mean", "max", "inside_triangle", "outside_triangle")),
        ("polytopes seen", _listed(polytopes, "distinct", "estimate", "error", "reliable")),
        ("time, s", _listed(p.get("timings", {}))),
        ("seed", p.get("seed")),
        ("versions", _listed(p.get("versions", {}))),
    ]
    return [(what, visible(str(value))) for what, value in found if value not in (None, "")]


def _joined(tree: dict[str, object], *keys: str) -> str:
    return ", ".join(str(tree[k]) for k in keys if tree.get(k) not in (None, ""))


def _listed(tree: dict[str, object], *keys: str) -> str:
    """`key value` of the keys that are there, all by default."""
    shown = ((k, tree[k]) for k in keys or tree if tree.get(k) is not None)
    return ", ".join(f"{k.replace('_', ' ')} {_said(v)}" for k, v in shown)


def _said(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def name(result: HeatMap) -> str:
    """The model's name, fit to be seen."""
    return visible(str(result.provenance["model"]["name"]))


def short(text: str, most: int) -> str:
    """`text` with its middle left out where it is longer than `most` characters."""
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def apart(names: Sequence[str]) -> list[str]:
    """Dotted names without the parts that all of them have at either end, but for one in front."""
    parts = [name.split(".") for name in names]
    least = min(map(len, parts), default=0)
    if len(parts) < 2 or least < 2:
        return list(names)
    head = next((k for k in range(least - 1) if len({p[k] for p in parts}) > 1), least - 1)
    tail = next((k for k in range(least - 1 - head) if len({p[-1 - k] for p in parts}) > 1), least - 1 - head)
    return [".".join(p[max(0, head - 1) : len(p) - tail]) for p in parts]
