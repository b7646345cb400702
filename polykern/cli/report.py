"""`polykern report`: a clustering as pages a person can read."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from polykern.cli import options, values
from polykern.cli.talk import Talk
from polykern.errors import CorruptError, UsageError

SCHEMA = "polykern-report/1"
EXAMPLES = (
    "polykern report minilm.clusters",
    "polykern report minilm.clusters --out report --examples 12 --context 40",
)
MAX_SCORES = 16 << 20  # bytes


def command(
    ctx: typer.Context,
    clusters: options.Clusters,
    store: options.StoreOf = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the report. Default: CLUSTERS/report.")
    ] = None,
    examples: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="Rows of a group of examples.")] = 10,
    context: Annotated[int, typer.Option(metavar="N", min=0, max=1000, help="Tokens shown on either side.")] = 20,
    scores: Annotated[
        str,
        typer.Option(
            metavar="FILE", help="Scores to show: what `polykern score --json` said; auto computes them; none."
        ),
    ] = "auto",
    backend: options.Backend = "auto",
    memory_budget: options.Memory = "2GiB",
    seed: options.Seed = 0,
) -> None:
    """Write a clustering as a folder of pages that opens from a disk, offline.

    An overview with sizes, condensed tree and a table of all clusters; for every cluster examples near its medoid,
    at random and at its boundary, its tokens, the bits that tell it from the rest, the clusters near it; a search
    by token; everything as JSON and columns as well.

    A report that is there is replaced as a whole; a folder with anything else is refused.
    """
    talk: Talk = ctx.obj
    budget = values.size(memory_budget)
    ctx.params["out"] = out = out or clusters / "report"

    from polykern.clustering.result import Clusters
    from polykern.report.clusters import write
    from polykern.report.clusters.scores import computed
    from polykern.store import Store

    opened = Clusters.open(clusters)
    of = Store.open(store or opened.store_path)
    found = _scores(scores) if scores not in ("auto", "none") else None
    if scores == "auto":
        found = computed(opened, of, seed)
    with talk.progress("done") as progress:
        page = write(
            opened, of, out, examples=examples, context=context, seed=seed, found=found,
            memory=max(1, budget // 2), backend=None if backend == "auto" else backend, progress=progress,
        )  # fmt: skip
    whole = {"schema": SCHEMA, "page": str(page), "clusters": opened.count, "rows": len(opened)}
    talk.result([(str(page),)], whole)
    talk.say("open it in a browser")


def _scores(name: str) -> dict[str, Any]:
    """The scores in a JSON file."""
    path = Path(name)
    try:
        if path.stat().st_size > MAX_SCORES:
            raise UsageError(f"{path} is larger than {MAX_SCORES >> 20} MiB", fix="name a file of scores")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as reason:
        raise CorruptError(f"{path} cannot be read", why=str(reason)) from reason
    if isinstance(found, dict) and isinstance(found.get("scores"), dict):  # what `polykern score --json` said
        found = {**found["scores"], "by": found.get("by")}
    if not isinstance(found, dict):
        raise CorruptError(f"{path} holds no scores")
    return found
