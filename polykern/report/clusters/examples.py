"""Which rows of a cluster are shown, and each as a person can read it.

Three groups, because the nearest alone flatter a cluster: the nearest to the medoid, random ones, and those that
belong to it least. A small cluster is shown whole.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from polykern.report.clusters.parts import rounded
from polykern.report.clusters.source import NOISE, PIECE, Rows, Source
from polykern.report.clusters.tokens import Vocabulary, cut

Groups = Mapping[str, Rows]


def chosen(source: Source, cluster: int) -> Groups:
    """Rows to show of a cluster, by group.

    source   says how many a group has, and the seed
    cluster  -1 for noise

    Returns "all" for a cluster that fits into its three groups, nearest to the medoid first; else "nearest",
    "random" (drawn from all members, in order of distance) and "boundary" (least probability, then largest
    distance). Of noise: "random", and "outlying" with the largest outlier scores.
    """
    members, k = source.members(cluster), source.examples
    if cluster != NOISE and len(members) <= 3 * k:
        return {"all": np.asarray(members)}
    rng = np.random.default_rng([source.seed, cluster + 1])
    some = np.sort(rng.choice(len(members), min(k, len(members)), replace=False))
    random = np.asarray(members[some])
    points = source.clusters.points
    if cluster == NOISE:
        return {"random": random, "outlying": _extreme(members, k, lambda rows: -points["outlier_score"][rows])}
    away = source.clusters.members["distance"]
    last = _extreme(members, k, lambda rows: points["probability"][rows], lambda rows: -away[rows])
    return {"nearest": np.asarray(members[:k]), "random": random, "boundary": last}


def _extreme(members: Rows, k: int, *ranks: Any) -> Rows:
    """The k members of least rank, by the first of `ranks`, then the next, then by row."""
    best = np.empty(0, np.int64)
    for at in range(0, len(members), PIECE):
        here = np.concatenate((best, members[at : at + PIECE]))
        order = np.lexsort((here, *(rank(here) for rank in reversed(ranks))))
        best = here[order[:k]]
    return best


def shown(source: Source, rows: Iterable[int], words: Vocabulary | None) -> dict[int, dict[str, Any]]:
    """Each row as JSON can hold it, read in the order of the rows.

    source  of the rows
    rows    any order, repetitions are read once
    words   the vocabulary, where there is one

    Returns row -> row, d distance to the medoid (null for noise), p probability, o outlier score, doc, pos, token;
    for texts tokens, the pieces around it, and at, its own place among them; for photos label, their class.
    """
    points, away = source.clusters.points, source.clusters.members["distance"]
    found = {}
    for row in sorted(set(rows)):
        one: dict[str, Any] = {
            "row": row,
            "d": rounded(float(away[row])) if source.labels[row] >= 0 else None,
            "p": rounded(float(points["probability"][row])),
            "o": rounded(float(points["outlier_score"][row])),
        }
        one |= {name: int(column[row]) for name, column in source.places.items()}
        if source.kind == "text":
            context = source.store.context(row, before=source.context, after=source.context)
            one |= {"tokens": [cut(piece) for piece in context.pieces], "at": context.at}
        elif words is not None:
            one["label"] = words.text(one["token"])
        found[row] = one
    return found
