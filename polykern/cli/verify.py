"""`polykern verify`: whether every file that polykern wrote is what its records say."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polykern.cli.talk import Talk

if TYPE_CHECKING:
    from polykern.verification import Verdict

SCHEMA = "polykern-verify/1"
EXAMPLES = (
    "polykern verify minilm.codes",
    "polykern verify minilm.clusters --fast --json",
)
CORRUPT = 3


def command(
    ctx: typer.Context,
    store: Annotated[
        str,
        typer.Argument(
            metavar="RESULT",
            help="Folder or URL of a store of codes; folder of clusters, a heat map, a partition or an experiment; "
            "file of a bench.",
        ),
    ],
    fast: Annotated[
        bool, typer.Option("--fast", metavar="", help="Records, sizes and headers only; do not read every byte.")
    ] = False,
) -> None:
    """Hold every file of a result against its hash and name those that are damaged, missing or foreign.

    The exit code is 0 for a good result and 3 for one that is not. What is still being made is good when what it
    holds so far is.
    """
    talk: Talk = ctx.obj
    with talk.progress("files") as progress:
        found = _bench(Path(store)) if "://" not in store and Path(store).is_file() else None
        if found is None:
            from polykern.verification import examine

            found = examine(store, full=not fast, progress=progress)
    whole: dict[str, Any] = {
        "schema": SCHEMA,
        "ok": not found.problems,
        "of": found.schema,
        "store": store.rstrip("/") if "://" in store else store,
        "level": "fast" if fast else "full",
        "complete": found.complete,
        "hashed": found.hashed,
        **({} if found.shards is None else {"shards": found.shards}),
        "rows": found.rows,
        "bytes": found.bytes,
        "problems": [{"file": p.file, "what": p.what} for p in found.problems],
    }
    if found.problems:
        talk.result([(p.file, p.what) for p in found.problems], whole)
        many = len(found.problems)
        talk.say(f"{store}: {many:,} file{'' if many == 1 else 's'} not as it should be", "error")
        raise typer.Exit(CORRUPT)
    talk.result([(store, f"{found.told}{'' if found.complete else ', not complete'}: {_read(found, fast)}")], whole)


def _read(found: "Verdict", fast: bool) -> str:
    """What was held against what."""
    if not found.hashed:
        return "what can be checked agrees; no hashes were recorded"
    return "records, sizes and headers agree" if fast else f"{found.bytes:,} bytes agree with their hashes"


def _bench(path: Path) -> "Verdict":
    """The verdict on the file of a bench."""
    from polykern.store.sealed import CHECK, parsed
    from polykern.verification import Verdict
    from polykern_benches import _document

    whole = _document.read(path)
    size = path.stat().st_size
    hashed = CHECK in parsed(path.read_bytes())
    return Verdict(_document.SCHEMA, f"{len(whole['results']):,} records", bytes=size, hashed=hashed)
