"""What a report is made from: a clustering, the store it is of, and how much of it is to be shown."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from polykern.clustering.result import Clusters
from polykern.errors import MismatchError, UsageError
from polykern.layout import Layout
from polykern.store import Store

PIECE = 1 << 20  # rows looked at together
NOISE = -1

Rows = NDArray[np.int64]
Kind = Literal["text", "image"]
KINDS: dict[str, Kind] = {"text": "text", "image": "image"}


@dataclass(frozen=True, eq=False)
class Source:
    """A clustering with its store; n rows, c clusters.

    clusters  as `Clusters.open` gives it
    store     the store that was clustered
    examples  how many rows a group of examples has
    context   how many tokens are shown on either side
    seed      of the random examples

    Errors: UsageError for numbers out of range, MismatchError for a store of other rows.
    """

    clusters: Clusters
    store: Store
    examples: int
    context: int
    seed: int

    def __post_init__(self) -> None:
        if not 1 <= self.examples <= 1000:
            raise UsageError(f"{self.examples} examples a group", fix="choose 1 to 1000")
        if not 0 <= self.context <= 1000:
            raise UsageError(f"a context of {self.context} tokens", fix="choose 0 to 1000")
        described = self.clusters.about["store"]
        names = {
            "rows": len(self.store),
            "fingerprint": self.store.fingerprint,
            "config_hash": self.store.config_hash,
        }
        there = {k: v for k, v in names.items() if described.get(k) is not None} | {"rows": len(self.store)}
        wanted = {k: described.get(k) for k in there} | {"rows": len(self.clusters)}
        wrong = [k for k, v in wanted.items() if v != there[k]]
        if wrong:
            raise MismatchError(
                "the clusters are of another store",
                why="; ".join(f"{k}: {there[k]} in the store, {wanted[k]} were clustered" for k in wrong),
                fix="--store names the store that was clustered",
            )

    @property
    def rows(self) -> int:
        """n."""
        return len(self.clusters)

    @property
    def count(self) -> int:
        """c."""
        return self.clusters.count

    @property
    def layout(self) -> Layout:
        """Which bit is which unit of which nonlinearity, in the store."""
        return self.store.layout

    @property
    def metric(self) -> str:
        """What distances are measured in: hamming, jaccard, euclidean, cosine."""
        return str(self.clusters.about["parameters"].get("metric", "hamming"))

    @property
    def fields(self) -> tuple[str, ...] | None:
        """The fields of the codes that were clustered; None for all of the store, or for activations."""
        said = self.clusters.about["store"].get("fields")
        every = [f.name for f in self.layout.fields]
        return None if self.activations is not None or not said or list(said) == every else tuple(said)

    @property
    def activations(self) -> str | None:
        """The activations that were clustered; None where it was the codes."""
        about = self.clusters.about["store"]
        return str(about["fields"][0]) if about.get("of") == "activations" else None

    @property
    def kind(self) -> Kind | None:
        """What a person sees of a row: its token in the text, its patch of the photo, or nothing."""
        return KINDS.get(self.store.items or "")

    @cached_property
    def places(self) -> dict[str, NDArray[np.int32]]:
        """doc, pos and token of every row, those that the store has; int32 (n) each."""
        wanted = [name for name in ("doc", "pos", "token") if name in self.store.columns]
        return {name: self.store.column(name) for name in wanted}

    @cached_property
    def labels(self) -> NDArray[np.int32]:
        """int32 (n): the cluster of every row, -1 for noise."""
        return self.clusters.labels

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the feature grid that the positions of a photo count; None for whole photos."""
        said = self.store.about.get("grid")
        good = isinstance(said, list) and len(said) == 2 and all(type(k) is int and k > 0 for k in said)
        return (said[0], said[1]) if said and good else None

    @property
    def classes(self) -> list[str]:
        """Names of the classes of photos; empty where they have none."""
        said = self.store.about.get("classes")
        return [str(name) for name in said] if isinstance(said, list) else []

    def words(self, rows: Rows) -> Tensor:
        """int32 (k, words): the codes that were clustered, of some rows in their order."""
        return self.store.rows(rows, self.fields).codes.words

    def members(self, cluster: int) -> Rows:
        """int64 (size): rows of a cluster, nearest to the medoid first; of noise for -1."""
        return self.clusters.rows(cluster)
