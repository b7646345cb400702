"""The report of a clustering: a folder whose index.html opens from a disk, whatever the number of clusters.

The page starts with an index of a few numbers a cluster and reads what it shows in packed parts, when it shows it.
Text of strangers travels inside those parts and becomes text nodes only.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from polykern.clustering.result import Clusters
from polykern.progress import Progress, silent
from polykern.report import pages
from polykern.report.clusters import bits, export, near, parts, photos, scores, tokens, tree, wording
from polykern.report.clusters.records import Records
from polykern.report.clusters.source import Source
from polykern.report.script import json_for_script
from polykern.store import Store

SCHEMA = "polykern-cluster-report/1"
ABOUT = "report.json"
SCRIPTS = (
    "parts.js",
    "marks.js",
    "tree.js",
    "table.js",
    "overview.js",
    "bits.js",
    "cluster.js",
    "search.js",
    "app.js",
)
NAMES = {"text": "tokens", "image": "classes"}
MEMORY = 1 << 30  # bytes of counts held at a time


def write(
    clusters: Clusters | Path | str,
    store: Store | Path | str | None,
    folder: Path | str,
    *,
    examples: int = 10,
    context: int = 20,
    seed: int = 0,
    found: Mapping[str, Any] | None = None,
    memory: int = MEMORY,
    backend: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """The report of a clustering as `folder`; returns the page to open, `folder`/index.html.

    clusters  a finished clustering, or its folder
    store     the store it is of; None takes it from where it was
    folder    a report already there is replaced as a whole; any other folder that is not empty is refused
    examples  rows of each group of examples: nearest to the medoid, random, boundary
    context   tokens on either side of a row's own
    seed      of the random examples
    found     scores to show, as `polykern.scores` gives them; None shows none
    memory    bytes of bit counts held at a time: fewer make more passes over the store
    backend   of the kernels; None takes the first that can run
    progress  called with (stage, done, total)

    Equal arguments give equal bytes. Every number of the page is computed from all rows. Raises UsageError where
    `folder` holds something else, MismatchError where the store is not the one that was clustered.
    """
    result = clusters if isinstance(clusters, Clusters) else Clusters.open(clusters)
    opened = store if isinstance(store, Store) else Store.open(store or result.store_path)
    source = Source(result, opened, examples, context, seed)
    target = Path(folder)
    pages.require_place(target, "a report", ABOUT)
    say = progress or silent
    return pages.replace(target, ".report-", lambda folder: _fill(source, folder, found, memory, backend, say))


def _fill(
    source: Source,
    folder: Path,
    found: Mapping[str, Any] | None,
    memory: int,
    backend: str | None,
    progress: Progress,
) -> None:
    """All files, index.html last."""
    data, exported = folder / "data", folder / "export"
    data.mkdir()
    exported.mkdir()
    words = tokens.vocabulary(source)
    shards = tokens.write_postings(source, words, data) if words is not None else []
    records = Records(source, words, near.nearest(source, backend))
    chunks = _records(source, records, data, exported, memory, progress)
    parts.write_json(data, "noise", parts.compact(records.noise()))
    parts.write_columns(data, "index", records.columns)
    parts.write_json(data, "names", parts.compact(records.names))
    parts.write_columns(data, "tree", tree.columns(source.clusters))
    photos.write(source, records.docs, data, progress)
    shown = {
        **wording.facts(source), "words": None if words is None else NAMES[source.kind or "text"],
        "title": wording.title(source), "scores": scores.charts(found), "scored": scores.note(found),
        "chunks": chunks, "shards": shards,
    }  # fmt: skip
    _describe(source, folder)
    _page(source, folder, json_for_script(shown))


def _records(
    source: Source, records: Records, data: Path, exported: Path, memory: int, progress: Progress
) -> list[int]:
    """The chunks of records and the export; returns the first cluster of every chunk."""
    chunks = parts.Chunks(data, "clusters")
    together = max(1, memory // (4 * source.layout.bits))
    k = min(bits.SHOWN, source.layout.bits)
    told = [np.full((source.count, k), empty) for empty in (-1, np.nan, np.nan)]
    with export.Lines(exported) as lines:
        for first in range(0, source.count, together):
            last = min(first + together, source.count)
            inside, every = bits.counted(source, first, last, progress)
            for record in records.batch(first, last, inside, every):
                text = parts.compact(record)
                chunks.add(text)
                lines.add(text)
                for column, values in zip(told, export.telling(record, k), strict=True):
                    column[record["c"]] = values
                if record["c"] % 64 == 63 or record["c"] + 1 == source.count:
                    progress("clusters", record["c"] + 1, source.count)
    chunks.close()
    more = dict(zip(("bits", "bits_inside", "bits_outside"), told, strict=True))
    pairs = {"near_distance": records.near[0], "near": records.near[1], "medoid": source.clusters.members["medoid"]}
    export.write_columns(exported, {**records.columns, **pairs, **more})
    return chunks.firsts


def _describe(source: Source, folder: Path) -> None:
    """report.json: what this is, what it is of, and what the exported files hold."""
    about = {k: v for k, v in source.clusters.about.items() if k != "files"}
    whole = {
        "schema": SCHEMA,
        "clusters": about,
        "layout": [
            {"name": f.name, "kind": f.kind, "shape": f.shape, "thresholds": f.thresholds, "offset": f.offset}
            for f in source.layout.fields
        ],
        "examples": source.examples,
        "context": source.context,
        "seed": source.seed,
        "files": {
            f"export/{export.LINES}": "one JSON object a cluster: sizes, tokens, telling bits, layers, examples",
            f"export/{export.COLUMNS}": "arrays whose first axis is the cluster",
        },
    }
    (folder / ABOUT).write_text(json_for_script(whole) + "\n", encoding="ascii")


def _page(source: Source, folder: Path, text: str) -> None:
    pages.render(
        folder, "polykern.report.clusters", SCRIPTS, "report.css", text,
        name=wording.title(source), subtitle=wording.subtitle(source), credit=wording.footer(source),
        rows=wording.rows(source), files=(ABOUT, f"export/{export.LINES}", f"export/{export.COLUMNS}"),
        wrap="close up" if source.kind == "image" else "wrap",
    )  # fmt: skip
