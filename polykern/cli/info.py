"""`polykern info`: what a store of codes, a clustering or a heat map holds."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polykern.cli.talk import Talk

if TYPE_CHECKING:
    from polykern.clustering.result import Clusters
    from polykern.maps.result import HeatMap
    from polykern.store import Store

SCHEMA = "polykern-info/1"
EXAMPLES = (
    "polykern info minilm.codes",
    "polykern info demo --json",
)
LONGEST = 100  # characters of a value in the table; --json has all of it
Table = list[tuple[str, str]]


def command(
    ctx: typer.Context,
    result: Annotated[
        str,
        typer.Argument(
            metavar="RESULT", help="Folder or URL of a store of codes; folder of clusters or a heat map."
        ),
    ],
) -> None:
    """Say what a store holds: rows, bits, layers, columns, what it was made from, and what it takes on disk.

    The folders of clusters and of heat maps say theirs as well. Records, sizes and headers are checked on the way;
    `polykern verify` reads every byte.
    """
    talk: Talk = ctx.obj
    near = "://" not in result
    if near and (Path(result) / "map.json").exists():
        from polykern.maps.result import HeatMap

        rows, whole = _heat_map(HeatMap.open(result))
    elif near and (Path(result) / "clusters.json").exists():
        from polykern.clustering.result import Clusters

        rows, whole = _clusters(Clusters.open(result))
    else:
        from polykern.store import Store

        rows, whole = _store(Store.open(result))
    talk.result(rows, {"schema": SCHEMA, **whole})


def _store(store: "Store") -> tuple[Table, dict[str, Any]]:
    """The table and the object of a store."""
    said = store.manifest.as_dict()
    state = "complete" if store.complete else "not complete: the command that began it goes on with it"
    wide = store.layout.bits
    kept = [f"{name} {a['dtype']} {_shape(a['shape'])}" for name, a in said["activations"].items()]
    rows = [
        (store.path, f"{said['schema']}, {state}"),
        ("rows", f"{len(store):,} in {len(store.records):,} shards"),
        ("bits", f"{wide:,} of {len(store.layout.fields)} layers"),
        *(("", f"{f.name}  {f.kind} {_shape(f.shape)}, {f.bits:,} bits") for f in store.layout.fields),
        ("columns", ", ".join(store.columns) or "none"),
        ("activations", ", ".join(kept) or "none"),
        ("items", store.items or "none"),
        ("disk", _size(store.nbytes)),
        *((name, _short(value)) for name, value in _leaves({"about": said["about"], "config": said["config"]})),
        ("config hash", store.config_hash),
        ("versions", ", ".join(f"{k} {v}" for k, v in said["versions"].items() if v)),
    ]
    more = {
        "rows": len(store),
        "shards": len(store.records),
        "bytes": store.nbytes,
        "fingerprint": store.fingerprint,
    }
    del said["schema"]
    return rows, {"of": store.manifest.as_dict()["schema"], "path": store.path, **said, **more}


def _clusters(found: "Clusters") -> tuple[Table, dict[str, Any]]:
    """The table and the object of a clustering."""
    said, rows = found.about, len(found)
    held = _held(found.folder)
    share = found.noise / rows if rows else 0.0
    shown = {name: said[name] for name in ("store", "model", "parameters", "tree")}
    table = [
        (str(found.folder), f"{said['schema']}, complete"),
        ("rows", f"{rows:,}"),
        ("clusters", f"{found.count:,}"),
        ("noise", f"{found.noise:,} rows, {share:.1%}"),
        ("disk", _size(held)),
        *((name, _short(value)) for name, value in _leaves(shown)),
        ("versions", ", ".join(f"{k} {v}" for k, v in said["versions"].items() if v)),
    ]
    body = {k: v for k, v in said.items() if k != "schema"}
    return table, {"of": said["schema"], "path": str(found.folder), "bytes": held, **body}


def _heat_map(found: "HeatMap") -> tuple[Table, dict[str, Any]]:
    """The table and the object of a heat map."""
    said, n = found.provenance, found.resolution
    held = _held(found.folder)
    model = said["model"]
    rows = [
        (str(found.folder), f"{said['schema']}, complete"),
        ("pixels", f"{n:,} x {n:,}, {found.step:.4g} apart in {said['plane'].get('unit', 'L2')}"),
        ("model", f"{model['name']}, {len(found.fields)} layers"),
        *(("", f"{layer['module']}  {layer.get('kind', '')}") for layer in model["layers"]),
        ("anchors", ", ".join(a.label for a in found.anchors)),
        ("disk", _size(held)),
        *((name, _short(value)) for name, value in _leaves({"config": said.get("config", {})})),
    ]
    body = {k: v for k, v in said.items() if k != "schema"}
    return rows, {"of": said["schema"], "path": str(found.folder), "bytes": held, **body}


def _leaves(value: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names of everything in nested tables."""
    for key, inner in value.items():
        name = f"{at}.{key}" if at else str(key)
        if isinstance(inner, Mapping):
            yield from _leaves(inner, name)
        else:
            yield name, inner


def _held(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _shape(shape: Any) -> str:
    return " x ".join(f"{s:,}" for s in shape)


def _size(size: int) -> str:
    """Bytes, and in a unit that a person reads."""
    value, unit = float(size), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{size:,} bytes" if unit == "bytes" else f"{value:.1f} {unit} ({size:,} bytes)"
