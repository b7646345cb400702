"""The trees of a clustering as arrays, tables, and the plotting classes of the package hdbscan.

fitted.condensed_tree_.hdbscan().plot(select_clusters=True)
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polykern.clustering.dendrogram import ROW, Condensed, Edges
from polykern.errors import MissingExtra, PolykernError
from polykern_kernels import hierarchy

Array = NDArray[Any]


class MissingPackage(MissingExtra):
    """A package is needed that none of polykern's extras brings; the message holds the pip line."""

    def __init__(self, what: str, package: str) -> None:
        PolykernError.__init__(self, what, fix=f"pip install {package}")


@dataclass(frozen=True, eq=False)
class CondensedTree:
    """The condensed tree of a clustering: how clusters split, and when each point leaves.

    tree    with merges of more than two where distances are tied
    labels  int64 (n)
    """

    tree: Condensed
    labels: NDArray[np.int64]

    def __repr__(self) -> str:
        return f"CondensedTree({self.tree.n:,} points, {len(self.tree.clusters.sizes):,} clusters)"

    def to_numpy(self) -> Array:
        """(r) with fields parent, child, lambda_val, child_size; points below n, the root is n."""
        return self.tree.to_numpy()

    def to_pandas(self) -> Any:
        """The same as a pandas.DataFrame."""
        return _imported("pandas", "tables").DataFrame(self.to_numpy())

    def hdbscan(self) -> Any:
        """`hdbscan.plots.CondensedTree`; it knows splits in two only: wider ones become several at one lambda."""
        plots = _imported("hdbscan.plots", "plots of the trees")
        return plots.CondensedTree(in_twos(self.to_numpy(), self.tree.n), self.labels)


@dataclass(frozen=True, eq=False)
class SingleLinkageTree:
    """The dendrogram of a clustering."""

    tree: hierarchy.Dendrogram

    def __repr__(self) -> str:
        heights = self.tree.heights
        return f"SingleLinkageTree({len(self.tree.children) - len(heights) + 1:,} points, {len(heights):,} merges)"

    def to_numpy(self) -> NDArray[np.float64]:
        """float64 (n - 1, 4): two ids, distance, points below, as in `scipy.cluster.hierarchy`.

        What merges at one distance does so in several rows.
        """
        return hierarchy.linkage(self.tree).numpy()

    def to_pandas(self) -> Any:
        """The same as a pandas.DataFrame: parent, left_child, right_child, distance, size."""
        rows = self.to_numpy()
        ids = rows[:, :2].astype(np.int64)
        columns = {
            "parent": len(rows) + 1 + np.arange(len(rows)),
            "left_child": ids[:, 0],
            "right_child": ids[:, 1],
            "distance": rows[:, 2],
            "size": rows[:, 3].astype(np.int64),
        }
        return _imported("pandas", "tables").DataFrame(columns)

    def hdbscan(self) -> Any:
        """`hdbscan.plots.SingleLinkageTree`."""
        return _imported("hdbscan.plots", "plots of the trees").SingleLinkageTree(self.to_numpy())


@dataclass(frozen=True, eq=False)
class MinimumSpanningTree:
    """The minimum spanning tree of mutual reachability.

    source, target  int64 (n - 1)
    weight          float64 (n - 1)
    zero            > 0, the distance that 0 stands for in plots, which take logarithms
    """

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    weight: NDArray[np.float64]
    zero: float

    def __repr__(self) -> str:
        return f"MinimumSpanningTree({len(self.weight) + 1:,} points, weight {self.weight.sum():,.6g})"

    @classmethod
    def of(cls, tree: Edges, zero: float) -> "MinimumSpanningTree":
        """Of a tree's tensors; zero 0.0 is half of its least positive weight."""
        weight = tree.weight.double().numpy()
        least = float(weight[weight > 0].min(initial=np.inf))
        half = least / 2 if np.isfinite(least) else 1.0  # where every weight is 0, any number will do
        return cls(tree.source.numpy(), tree.target.numpy(), weight, zero or half)

    def to_numpy(self) -> NDArray[np.float64]:
        """float64 (n - 1, 3): source, target, weight."""
        columns = (self.source, self.target, self.weight)
        return np.stack([x.astype(np.float64) for x in columns], axis=1)

    def to_pandas(self) -> Any:
        """The same as a pandas.DataFrame: from, to, distance."""
        columns = {"from": self.source, "to": self.target, "distance": self.weight}
        return _imported("pandas", "tables").DataFrame(columns)

    def hdbscan(self, points: Array) -> Any:
        """`hdbscan.plots.MinimumSpanningTree` over points, any (n, d) array, which it projects to a plane."""
        rows = self.to_numpy()
        rows[:, 2] = np.where(rows[:, 2] > 0, rows[:, 2], self.zero)
        return _imported("hdbscan.plots", "plots of the trees").MinimumSpanningTree(rows, np.asarray(points))


def in_twos(rows: Array, n: int) -> Array:
    """A condensed tree whose splits into more than two clusters are splits in two at one lambda.

    rows     as `CondensedTree.to_numpy` gives them
    n        points
    returns  the same fields; clusters are numbered anew, parents first. A tree of splits in two stays as it is

    A split in k becomes a balanced tree of k - 1, so that nothing gets deep.
    """
    splits = rows[rows["child"] >= n]
    first = np.flatnonzero(np.diff(splits["parent"], prepend=-1))  # the children of a cluster stand together
    if np.diff(first, append=len(splits)).max(initial=0) <= 2:
        return rows
    families = dict(zip(splits["parent"][first].tolist(), np.split(splits, first[1:]), strict=True))
    made: list[tuple[int, int, float, int]] = []
    name = np.full(int(rows["child"].max(initial=n)) - n + 1, n)  # its new one for each old cluster
    queue: list[tuple[int, Array]] = [(n, families[n])] if n in families else []
    fresh = n + 1
    for parent, family in queue:
        half = (len(family) + 1) // 2
        for part in (family[:half], family[half:]):
            made.append((parent, fresh, float(part["lambda_val"][0]), int(part["child_size"].sum())))
            if len(part) > 1:
                queue.append((fresh, part))
            else:
                child = int(part["child"][0])
                name[child - n] = fresh
                if child in families:
                    queue.append((fresh, families[child]))
            fresh += 1
    points = rows[rows["child"] < n].copy()
    points["parent"] = name[points["parent"] - n]
    every = np.concatenate([np.array(made, ROW), points])
    return every[np.argsort(every["parent"], kind="stable")]


def _imported(module: str, what: str) -> Any:
    package = module.split(".")[0]
    try:
        return import_module(module)
    except ImportError:
        raise MissingPackage(f"{what} need the package {package}", package) from None
