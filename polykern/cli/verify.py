"""`polykern verify`: whether every file of a store, or of a clustering, is what its records say."""

from pathlib import Path
from typing import Annotated, Any

import typer

from polykern.cli import options
from polykern.cli.talk import Talk

SCHEMA = "polykern-verify/1"
EXAMPLES = (
    "polykern verify minilm.codes",
    "polykern verify minilm.clusters --fast --json",
)
CORRUPT = 3


def command(
    ctx: typer.Context,
    store: Annotated[
        str, typer.Argument(metavar="STORE", help="Folder or URL of a store of codes; folder of clusters.")
    ],
    fast: Annotated[
        bool, typer.Option("--fast", metavar="", help="Records, sizes and headers only; do not read every byte.")
    ] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
    log_format: options.Log = "text",
) -> None:
    """Hold every file of a store against its hash and name those that are damaged, missing or foreign.

    The exit code is 0 for a good store and 3 for one that is not. A store that is still being made is good when
    what was committed is.
    """
    talk: Talk = ctx.obj
    talk.settle(quiet=quiet, verbose=verbose, log=log_format)

    if "://" not in store and (Path(store) / "clusters.json").exists():
        _clusters(talk, store, fast)
        return
    from polykern.store.examination import examine
    from polykern.store.files import opened

    files, level = opened(store), "fast" if fast else "full"
    with talk.progress("files") as progress:
        found = examine(files, level, progress)
    held = sum(mark.bytes for record in found.records for mark in record.files)
    rows = sum(record.rows for record in found.records)
    complete = found.manifest is not None and found.manifest.complete
    whole = {
        "schema": SCHEMA,
        "ok": not found.problems,
        "store": files.where,
        "level": level,
        "complete": complete,
        "shards": len(found.records),
        "rows": rows,
        "bytes": held,
        "problems": [{"file": p.file, "what": p.what} for p in found.problems],
    }
    if found.problems:
        talk.result([(p.file, p.what) for p in found.problems], whole)
        talk.say(f"{files.where}: {_counted(len(found.problems), 'file')} not as it should be", "error")
        raise typer.Exit(CORRUPT)
    state = "" if complete else ", not complete"
    read = "records, sizes and headers agree" if fast else f"{held:,} bytes agree with their hashes"
    talk.result([(files.where, f"{rows:,} rows in {_counted(len(found.records), 'shard')}{state}: {read}")], whole)


def _clusters(talk: Talk, folder: str, fast: bool) -> None:
    """The same for a clustering; what is damaged is raised."""
    from polykern.clustering.result import Clusters

    found = Clusters.open(folder, verify=not fast)
    held = sum(int(entry["bytes"]) for entry in found.about["files"])
    whole: dict[str, Any] = {
        "schema": SCHEMA,
        "store": folder,
        "level": "fast" if fast else "full",
        "complete": True,
        "rows": len(found),
        "bytes": held,
        "problems": [],
    }
    read = "sizes and shapes agree" if fast else f"{held:,} bytes agree with their hashes"
    talk.result([(folder, f"{found.count:,} clusters of {len(found):,} rows: {read}")], whole)


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"
