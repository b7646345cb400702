"""What a report says of the whole clustering, in words and numbers."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from polykern.report.clusters.parts import rounded
from polykern.report.clusters.source import Source
from polykern.report.script import visible
from polykern.report.wording import short

UNITS = {"hamming": "bits", "jaccard": "Jaccard distance", "euclidean": "L2"}
LONGEST = 300  # characters of a value


def title(source: Source) -> str:
    """Whose clusters these are."""
    name = source.clusters.about["model"].get("name") or "unnamed model"
    return short(visible(str(name)), 80)


def subtitle(source: Source) -> str:
    """What was clustered and how, in one line."""
    p, layout = source.clusters.about["parameters"], source.layout
    field, fields = source.activations, source.fields
    layers = len(fields or layout.fields)
    of = f"codes of {_bits(source):,} bits from {layers} layer{'' if layers == 1 else 's'}"
    if field is not None:
        of = f"activations of {short(visible(field), 60)}"
    least, samples = p.get("min_cluster_size"), p.get("min_samples")
    return f"{of} · HDBSCAN, {source.metric} · min cluster size {least}, min samples {samples}"


def footer(source: Source) -> str:
    """Seed, store and versions in one line."""
    about = source.clusters.about
    seed = source.store.config.get("seed")
    said = f"seed {seed} · " if isinstance(seed, int) else ""
    version, store = about["versions"].get("polykern", "?"), source.store.fingerprint[:16]
    weights = str(about["model"].get("weights") or "?")[:16]
    return visible(f"{said}{source.rows:,} rows · store {store} · weights {weights} · polykern {version}")


def rows(source: Source) -> list[tuple[str, str]]:
    """Everything a reader needs to trust or repeat the clustering, as (what, value), fit to be seen."""
    about = source.clusters.about
    model, store, tree = about["model"], about["store"], about["tree"]
    found = [
        ("model", model.get("name")),
        ("weights", model.get("weights")),
        ("note", model.get("note")),
        ("layers", ", ".join(f"{f.name} ({f.bits:,} bits)" for f in source.layout.fields)),
        ("clustered", f"{store.get('of')} of {', '.join(map(str, store.get('fields') or ['all layers']))}"),
        ("store", store.get("path")),
        ("store holds", source.store.fingerprint),
        ("its config", source.store.config_hash),
        ("parameters", _listed(about["parameters"])),
        ("counts", _listed(about["counts"])),
        ("spanning tree", _listed(tree)),
        ("time, s", _listed(about["timings"])),
        ("versions", _listed(about["versions"])),
        ("capture", _listed(source.store.config)),
        ("captured with", _listed(source.store.manifest.versions)),
        (
            "this page",
            f"{source.examples} examples a group, {source.context} tokens either side, seed {source.seed}",
        ),
    ]
    return [(what, short(visible(str(value)), 4 * LONGEST)) for what, value in found if value not in (None, "")]


def facts(source: Source) -> dict[str, Any]:
    """The numbers of the overview, for JSON."""
    about, sizes = source.clusters.about, np.asarray(source.clusters.members["size"])
    return {
        "rows": source.rows,
        "distinct": about["counts"].get("distinct"),
        "clusters": source.count,
        "noise": source.clusters.noise,
        "bits": source.layout.bits,
        "clustered": _bits(source),
        "of": "activations" if source.activations is not None else "codes",
        "metric": source.metric,
        "unit": UNITS.get(source.metric, source.metric),
        "kind": source.kind,
        "grid": source.grid if source.kind == "image" else None,
        "tree": {k: _plain(v) for k, v in about["tree"].items() if not isinstance(v, Mapping)},
        "parameters": {k: _plain(v) for k, v in about["parameters"].items()},
        "seconds": rounded(sum(v for v in about["timings"].values() if isinstance(v, int | float))),
        "median": float(np.median(sizes)) if len(sizes) else None,
        "sizes": histogram(sizes),
        "fields": [
            {"name": f.name, "kind": f.kind, "shape": f.shape, "thresholds": f.thresholds, "offset": f.offset}
            for f in source.layout.fields
        ],
    }


def _bits(source: Source) -> int:
    """Bits that were clustered."""
    fields = source.layout.fields
    return sum(f.bits for f in fields if source.fields is None or f.name in source.fields)


def histogram(sizes: np.ndarray[Any, Any]) -> list[list[int]]:
    """How many clusters have a size from .. up to (not including) .., in up to 24 steps of equal ratio."""
    if not len(sizes):
        return []
    least, most = int(sizes.min()), int(sizes.max())
    steps = min(24, max(1, most - least + 1))
    edges = np.unique(np.rint(np.geomspace(max(1, least), most + 1, steps + 1)).astype(np.int64))
    edges[0], edges[-1] = least, most + 1
    many, _ = np.histogram(sizes, edges)
    return [[int(a), int(b), int(n)] for a, b, n in zip(edges[:-1], edges[1:], many, strict=True)]


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {_said(v)}" for k, v in values.items() if v not in (None, "", {}, []))


def _said(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return f"({_listed(value)})"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_said(v) for v in value) + "]"
    return short(str(value), LONGEST)


def _plain(value: Any) -> Any:
    """A value JSON can write."""
    if isinstance(value, float):
        return rounded(value)
    return value if isinstance(value, int | str | None) else _said(value)
