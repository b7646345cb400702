"""Everything a report says about one cluster, as JSON."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polykern.report.clusters import bits, examples, tokens
from polykern.report.clusters.parts import rounded
from polykern.report.clusters.source import NOISE, Source

TOGETHER = 256  # clusters whose examples are read in one go
TOP = 24  # tokens of a cluster
NAMED = 3  # tokens that stand for a cluster in the table

Record = dict[str, Any]


@dataclass(eq=False)
class Records:
    """The records of a clustering, made a batch of clusters at a time.

    source  what they are of
    words   its vocabulary, where there are tokens
    near    distances float64 (c, k) and clusters int64 (c, k), the nearest medoids

    What is said of every cluster grows in `columns` (float64 and int64, c entries each) and `names`.
    """

    source: Source
    words: tokens.Vocabulary | None
    near: tuple[NDArray[np.float64], NDArray[np.int64]]
    columns: dict[str, NDArray[Any]] = field(init=False)
    names: list[list[str]] = field(init=False)
    docs: set[int] = field(init=False)

    def __post_init__(self) -> None:
        members, c = self.source.clusters.members, self.source.count
        self.columns = {
            "size": np.asarray(members["size"]),
            "persistence": np.asarray(members["persistence"]),
            "mean": np.asarray(members["mean_distance"]),
            "max": np.zeros(c, np.float64),
            "share": np.zeros(c, np.float64),
            "entropy": np.zeros(c, np.float64),
        }
        self.names, self.docs = [], set()

    def batch(self, first: int, last: int, inside: NDArray[np.int32], every: NDArray[np.int64]) -> Iterator[Record]:
        """The records of the clusters first .. last - 1, in order.

        inside  int32 (last - first, bits): how often each bit is set in each cluster
        every   int64 (bits): in all rows
        """
        for at in range(first, last, TOGETHER):
            some = range(at, min(at + TOGETHER, last))
            groups = {c: examples.chosen(self.source, c) for c in some}
            medoids = self.source.clusters.members["medoid"]
            wanted = [int(r) for g in groups.values() for rows in g.values() for r in rows]
            shown = examples.shown(self.source, wanted + [int(medoids[c]) for c in some], self.words)
            for c in some:
                profile = bits.profile(self.source, inside[c - first], every, int(self.columns["size"][c]))
                yield self._record(c, groups[c], shown, profile)

    def noise(self) -> Record:
        """The record of the rows that belong to no cluster."""
        groups = examples.chosen(self.source, NOISE)
        shown = examples.shown(self.source, (int(r) for rows in groups.values() for r in rows), self.words)
        return {
            "c": NOISE,
            "size": self.source.clusters.noise,
            **self._tokens(NOISE),
            **self._groups(groups, shown),
        }

    def _record(self, c: int, groups: examples.Groups, shown: dict[int, Record], profile: bits.Profile) -> Record:
        members, away = self.source.members(c), self.source.clusters.members["distance"]
        self.columns["max"][c] = farthest = float(away[members[-1]])
        record = {
            "c": c,
            "size": int(self.columns["size"][c]),
            "persistence": rounded(float(self.columns["persistence"][c])),
            "mean": rounded(float(self.columns["mean"][c])),
            "max": rounded(farthest),
            "medoid": shown[int(self.source.clusters.members["medoid"][c])],
            "near": [[int(i), rounded(float(d))] for d, i in zip(self.near[0][c], self.near[1][c], strict=True)],
            **self._tokens(c),
            **profile.plain(),
            **self._groups(groups, shown),
        }
        top = record.get("tokens", [])
        if top:
            self.columns["entropy"][c] = record["entropy"]
            self.columns["share"][c] = top[0][2] / record["size"]
        self.names.append([text for _, text, _ in top[:NAMED]])
        return record

    def _tokens(self, c: int) -> Record:
        """The most frequent tokens as (id, text, rows), how many there are, and the entropy in bits."""
        if self.words is None or not len(members := self.source.members(c)):
            return {}
        ids, many = tokens.counts(self.source, members)
        top = zip(ids[:TOP].tolist(), many[:TOP].tolist(), strict=True)
        return {
            "tokens": [[i, self.words.text(i), n] for i, n in top],
            "distinct": len(ids),
            "entropy": rounded(tokens.entropy(many)),
        }

    def _groups(self, groups: examples.Groups, shown: dict[int, Record]) -> Record:
        if self.source.kind == "image":
            self.docs |= {one["doc"] for one in shown.values()}
        return {"groups": {name: [shown[int(r)] for r in rows] for name, rows in groups.items()}}
