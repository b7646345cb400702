"""What the pictures and pages of a heat map say about where it comes from."""

import math

from polykern.heatmap.result import HeatMap
from polykern.report.script import visible


def subtitle(result: HeatMap) -> str:
    """Start, stop, bits, resolution, step and smoothing, in one line."""
    model, n = result.provenance["model"], result.resolution
    stop = f" to {visible(str(model['stop']))}" if model.get("stop") else " to the output"
    bits = f"{model['bits']:,} bits · " if isinstance(model.get("bits"), int) else ""
    start = short(visible(str(model.get("start", "?"))), 40)
    sigma = result.provenance.get("smoothing", {}).get("sigma")
    smooth = f" · Gaussian sigma {sigma:g} px" if isinstance(sigma, int | float) else ""
    return f"from {start}{stop} · {bits}{n} x {n} pixels, {result.step:.4g} L2 apart{smooth}"


def footer(result: HeatMap) -> list[str]:
    """Engine, audit, seed, weights and version, in two lines."""
    p = result.provenance
    arithmetic, audit = p.get("arithmetic", {}), p.get("audit", {})
    engine = f"engine {arithmetic.get('engine', '?')} ({arithmetic.get('dtype', '?')})"
    lines = [engine]
    if audit:
        bits = audit.get("bits")
        lines.append(
            f"audit in float64: {audit.get('wrong_bits')} wrong of {bits:,} bits at "
            f"{audit.get('points')} points, relative error of the density "
            f"{audit.get('density_relative_error', math.nan):.2g}"
            if isinstance(bits, int)
            else "audit: not run"
        )
    version = p.get("versions", {}).get("polykern", "")
    weights = str(p["model"].get("weights", ""))[:16]
    second = f"seed {p.get('seed')} · weights {weights} · polykern {version}"
    return [short(visible(" · ".join(lines)), 190), short(visible(second), 190)]


def name(result: HeatMap) -> str:
    """The model's name, fit to be seen."""
    return visible(str(result.provenance["model"]["name"]))


def short(text: str, most: int) -> str:
    """`text` with its middle left out where it is longer than `most` characters."""
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"
