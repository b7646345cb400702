"""Whether what polykern wrote is what it was: every kind of folder is known by its JSON file.

A folder that is still being made is good when what it holds so far is. Where an older version recorded no digests,
sizes and shapes are all that can be held against it, and `Verdict.hashed` says so.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polykern.errors import CorruptError
from polykern.progress import Progress
from polykern.store import Problem
from polykern.store.inventory import FILES, problems, read

Look = Callable[[Path, bool, Progress | None], "Verdict"]


@dataclass(frozen=True)
class Verdict:
    """What was looked at and what is wrong with it.

    schema    of what is there
    told      what it holds, in a few words
    complete  whether it is finished
    rows      of its main table, 0 where it has none
    shards    of a store; None for anything else
    bytes     that were held against records
    hashed    whether there are digests to hold them against
    problems  files that are not as they should be
    """

    schema: str
    told: str
    complete: bool = True
    rows: int = 0
    shards: int | None = None
    bytes: int = 0
    hashed: bool = True
    problems: list[Problem] = field(default_factory=list)


def examine(where: Path | str, *, full: bool = True, progress: Progress | None = None) -> Verdict:
    """What is in a folder or behind a URL, and what is wrong with it.

    where     a store of codes, clusters, a heat map, a partition, or the folder of an experiment
    full      hold every byte against its digest; else records, sizes and headers only
    progress  is told how far it is: ("verify", files done, files in all)

    Errors: CorruptError where nothing of polykern's is there.
    """
    text = str(where)
    if "://" not in text or text.startswith("file://"):
        root = Path(text.removeprefix("file://"))
        if not root.is_dir():
            raise CorruptError(f"{root}: not there", why="what polykern writes is a folder, or the file of a bench")
        for name, look in _KINDS.items():
            if (root / name).exists():
                try:
                    return look(root, full, progress)
                except CorruptError as reason:
                    return _torn(root, name, reason)
        if not any((root / name).exists() for name in ("manifest.json", "shards")):
            return _experiment(root, full, progress)
    return _store(where, full, progress)


def _store(where: Path | str, full: bool, progress: Progress | None) -> Verdict:
    from polykern.store import SCHEMA, examination
    from polykern.store.files import opened

    found = examination.examine(opened(where), "full" if full else "fast", progress)
    rows, shards = sum(record.rows for record in found.records), len(found.records)
    complete = found.manifest is not None and found.manifest.complete
    return Verdict(
        SCHEMA, f"{rows:,} rows in {_counted(shards, 'shard')}", complete, rows, shards,
        sum(mark.bytes for record in found.records for mark in record.files), problems=found.problems,
    )  # fmt: skip


def _clusters(root: Path, full: bool, progress: Progress | None) -> Verdict:
    from polykern.clustering.result import FILES as PARTS
    from polykern.clustering.result import SCHEMA, Clusters

    found = Clusters.open(root, verify=full)
    held = sum((root / f"{name}.safetensors").stat().st_size for name in PARTS)
    return Verdict(SCHEMA, f"{found.count:,} clusters of {len(found):,} rows", rows=len(found), bytes=held)


def _sweep(root: Path, full: bool, progress: Progress | None) -> Verdict:
    from polykern.clustering.result import Clusters

    about, wrong, held, rows = read(root / "sweep.json"), [], 0, 0
    runs = about.get("runs")
    if not isinstance(runs, list) or not all(isinstance(r, dict) for r in runs):
        raise CorruptError(f"{root / 'sweep.json'}: runs is no list of runs")
    for run in runs:
        name = Path(str(run.get("folder", ""))).name  # a name in this folder, whatever it says
        try:
            found = Clusters.open(root / name, verify=full)
        except CorruptError as reason:
            wrong.append(Problem(name, reason.what))
        else:
            held += sum(int(entry["bytes"]) for entry in found.about[FILES])
            rows = len(found)
    return Verdict(str(about.get("schema")), _counted(len(runs), "run"), rows=rows, bytes=held, problems=wrong)


def _heat_map(root: Path, full: bool, progress: Progress | None) -> Verdict:
    from polykern.maps.result import SCHEMA, HeatMap

    found = HeatMap.open(root)
    n, fields = found.resolution, len(found.fields)
    told = f"{n:,} x {n:,} pixels, {_counted(fields, 'layer')}"
    return _listed(root, found.provenance, SCHEMA, told, n * n, full, progress)


def _partition(root: Path, full: bool, progress: Progress | None) -> Verdict:
    from polykern.subdivision import Partition

    about = read(root / "partition.json")
    found = Partition.open(root)
    verdict = _listed(root, about, str(about["schema"]), f"{len(found):,} faces", len(found), full, progress)
    if not verdict.problems and full and (wrong := found.objection()):
        verdict.problems.append(wrong)
    return verdict


def _experiment(root: Path, full: bool, progress: Progress | None) -> Verdict:
    """The verdict on findings, NAME.json with the schema polykern-NAME/1, or on pages, which record no digests."""
    torn: tuple[str, CorruptError] | None = None
    for path in sorted(root.glob("*.json")):
        try:
            about = read(path)
            if str(about.get("schema")).startswith(f"polykern-{path.stem}/"):
                return _findings(root, path.stem, about, full, progress)
        except CorruptError as reason:
            torn = torn or (path.name, reason)
    if torn is None:
        raise CorruptError(f"{root} holds nothing that polykern has finished")
    return _torn(root, *torn)


def _findings(root: Path, name: str, about: dict[str, Any], full: bool, progress: Progress | None) -> Verdict:
    schema = f"polykern-{name}/1"
    if about["schema"] != schema:
        raise CorruptError(f"{root / name}.json: schema is {about['schema']!r}", why=f"this version reads {schema}")
    if (root / "index.html").is_file():
        return Verdict(schema, "pages", hashed=False)
    if not isinstance(about.get("numbers"), dict):
        raise CorruptError(f"{root / name}.json: numbers are missing")
    verdict = _listed(root, about, schema, f"findings of {name}", 0, full, progress)
    if name == "embeddings" and not verdict.problems:
        from polykern.neurons import Embeddings

        Embeddings.open(root)
    return verdict


def _listed(
    root: Path, about: Mapping[str, Any], schema: str, told: str, rows: int, full: bool, progress: Progress | None
) -> Verdict:
    """The verdict on a folder whose JSON file names the others."""
    try:
        wrong = list(problems(root, about, full=full, progress=progress))
    except ValueError as reason:
        raise CorruptError(f"{root}: its list of files cannot be read", why=str(reason)) from None
    held = sum(entry["bytes"] for entry in about.get(FILES, ()))
    return Verdict(schema, told, rows=rows, bytes=held, hashed=FILES in about, problems=wrong)


def _unfinished(root: Path, full: bool, progress: Progress | None) -> Verdict:
    about = read(root / "progress.json")
    if not isinstance(about.get("config"), dict):
        raise CorruptError(f"{root / 'progress.json'}: config is missing")
    told = "clusters"
    if "resolution" in about["config"]:
        told = f"a heat map, {_counted(len(list(root.glob('parts/*.npz'))), 'band')} done"
    return Verdict("progress", told, complete=False, hashed=False)


def _torn(root: Path, name: str, reason: CorruptError) -> Verdict:
    """The verdict on a folder that does not open: the error names the file."""
    lost = reason.what.removeprefix(f"{root}/")
    file, colon, what = lost.partition(": ")
    what = "; ".join(part for part in (what, reason.why) if part)
    return Verdict(name, "", complete=False, problems=[Problem(file if colon else name, what or lost)])


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


_KINDS: dict[str, Look] = {
    "map.json": _heat_map,
    "clusters.json": _clusters,
    "sweep.json": _sweep,
    "partition.json": _partition,
    "progress.json": _unfinished,
}
