"""`polykern score`: how good a clustering is, as numbers with baselines."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polykern.cli import options, values
from polykern.cli.talk import Talk
from polykern.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from polykern.clustering.result import Clusters
    from polykern.scores.agreement import Agreement, Stability
    from polykern.scores.baselines import Monosemanticity
    from polykern.store import Store

SCHEMA = "polykern-score/1"
EXAMPLES = (
    "polykern score minilm.clusters",
    "polykern score minilm.clusters --parts 5 --intruders test",
    "polykern score minilm.clusters --against other.clusters --json",
)
SHOWN = {"mean_purity": "purity", "pure_clusters": "pure clusters", "mean_entropy": "entropy, bits"}
Rows = list[tuple[str, str]]

By = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="Classes of the rows: a column of the store, or a file of numbers, .npy (n)."
    ),
]
Against = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Another clustering of the same rows, to be compared with.")
]
Parts = Annotated[
    int, typer.Option(metavar="N", min=0, help="Cluster N random parts of the rows: which clusters come again?")
]
Share = Annotated[float, typer.Option(metavar="X", help="Share of the rows in a part.")]
Intruders = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Write a blind test for a reader: which one does not belong?")
]
Graded = Annotated[
    Path | None, typer.Option(metavar="DIR", help="A blind test whose questions.csv a reader has filled in.")
]


def command(
    ctx: typer.Context,
    clusters: options.Clusters,
    store: options.StoreOf = None,
    by: By = "token",
    repeats: Annotated[int, typer.Option(metavar="N", min=1, help="Draws of every baseline.")] = 100,
    against: Against = None,
    parts: Parts = 0,
    share: Share = 0.8,
    intruders: Intruders = None,
    members: Annotated[int, typer.Option(metavar="N", min=2, help="Rows of a cluster in a question.")] = 5,
    graded: Graded = None,
    seed: options.Seed = 0,
) -> None:
    """Say how far clusters are of one token, or one class, each, beside what chance gives.

    Purity, the share of clusters of purity 0.9 or more, and entropy, with bootstrap intervals; the same for
    shuffled classes and for random clusters of the same sizes.
    """
    talk: Talk = ctx.obj
    values.finite("--share", share)

    from polykern.clustering.result import Clusters
    from polykern.scores.baselines import monosemanticity
    from polykern.store import Store

    found = Clusters.open(clusters)
    if not found.count:
        raise UsageError(f"{clusters} has no clusters to score", fix="a smaller --min-cluster-size, or more rows")
    opened = Store.open(store if store is not None else found.store_path)
    pure = monosemanticity(found.labels, _classes(opened, by, len(found)), repeats=repeats, seed=seed)
    rows, whole = _said(pure, by), {"schema": SCHEMA, "by": by, "scores": pure.as_dict()}
    if against is not None:
        rows, whole = _compared(found, Clusters.open(against), rows, whole)
    if parts:
        rows, whole = _resampled(talk, found, opened, (parts, share, seed), rows, whole)
    if intruders is not None:
        page = _asked(found, opened, intruders, members, seed)
        rows, whole = [*rows, ("questions", str(page))], {**whole, "questions": str(page)}
    if graded is not None:
        rows, whole = _graded(graded, rows, whole)
    talk.result(rows, whole)


def _classes(store: "Store", by: str, n: int) -> "NDArray[np.int64]":
    """A class for every row: a column of the store, or a file."""
    import numpy as np

    if not by.endswith(".npy"):
        return store.column(by).astype(np.int64)
    try:
        found = np.load(by, allow_pickle=False)
    except (OSError, ValueError) as reason:
        raise UsageError(f"{by} cannot be read", why=str(reason)) from reason
    if found.shape != (n,) or found.dtype.kind not in "iu":
        raise UsageError(f"{by} is no class for each of {n} rows", why=f"it is {found.dtype} {list(found.shape)}")
    return np.asarray(found, np.int64)


def _said(pure: "Monosemanticity", by: str) -> Rows:
    rows = [("clusters", f"{pure.clusters:,}, {pure.noise:.1%} of the rows are noise; classes: {by}")]
    for name, word in SHOWN.items():
        measure = pure.measures[name]
        chance = ", ".join(f"{k} {b.mean:.3f} [{b.low:.3f}, {b.high:.3f}]" for k, b in measure.baselines.items())
        own = measure.interval
        rows.append((word, f"{measure.value:.3f} [{own.low:.3f}, {own.high:.3f}]; {chance}"))
    return rows


def _compared(
    found: "Clusters", other: "Clusters", rows: Rows, whole: dict[str, Any]
) -> tuple[Rows, dict[str, Any]]:
    from polykern.scores.agreement import compare

    if len(found) != len(other):
        raise UsageError(f"{other.folder} is of {len(other)} rows, {found.folder} of {len(found)}")
    same: Agreement = compare(found.labels, other.labels)
    told = f"ARI {same.all_rows.ari:.4f}, in clusters of both {same.clustered.ari:.4f}"
    rows = [*rows, ("against", f"{told}; {len(same.matches.first):,} clusters match")]
    return rows, {**whole, "against": {"folder": str(other.folder), **same.as_dict()}}


def _resampled(
    talk: Talk, found: "Clusters", store: "Store", asked: tuple[int, float, int], rows: Rows, whole: dict[str, Any]
) -> tuple[Rows, dict[str, Any]]:
    import numpy as np

    from polykern.clustering.stability import recipe_of, resampled

    runs, share, seed = asked
    with talk.progress("parts") as progress:
        again: Stability = resampled(
            found, recipe_of(found, store), runs, share=share, seed=seed, progress=progress
        )
    firm = float(np.mean(again.mean >= 0.75))
    told = f"{firm:.0%} of the clusters come again (Jaccard 0.75 or more), ARI {again.ari.mean():.3f}"
    return [*rows, ("stability", f"{told} over {runs} parts")], {**whole, "stability": again.as_dict()}


def _asked(found: "Clusters", store: "Store", folder: Path, members: int, seed: int) -> Path:
    """The questions of a blind test and, beside them, the answers."""
    from polykern.scores import intruders

    def described(row: int) -> str:
        if store.items != "text":
            return f"row {row}"
        shown = store.context(row)
        before, after = shown.pieces[: shown.at], shown.pieces[shown.at + 1 :]
        return f"{''.join(before)}[[{shown.pieces[shown.at]}]]{''.join(after)}"

    asked = intruders.questions(
        found.labels, members, distance=found.members["distance"], among=2 * members, seed=seed
    )
    return intruders.write(folder, asked, described)[0]


def _graded(folder: Path, rows: Rows, whole: dict[str, Any]) -> tuple[Rows, dict[str, Any]]:
    from polykern.scores import intruders

    asked = intruders.read_questions(folder / "answers.json")
    found = intruders.grade(asked, intruders.read_answers(folder / "questions.csv"))
    if not found.answered:
        raise UsageError(
            f"none of the {found.asked} questions of {folder} is answered",
            fix="write the number of the option into the last column of questions.csv",
        )
    told = f"{found.right} of {found.answered} answers are right ({found.share:.0%}); guessing: {found.chance:.0%}"
    return [*rows, ("reader", f"{told}, p = {found.p:.2g}")], {**whole, "reader": found.as_dict()}
