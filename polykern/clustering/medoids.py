"""The member that stands for a cluster, how far the others are from it, and the bits that tell the cluster.

The medoid of a cluster is the member with the least sum of distances from all members, ties to the smallest row
(Kaufman and Rousseeuw 1987). For codes it is exact and costs one look at every bit: the sum of the Hamming
distances of x from all members is the sum over bits of the members that differ there (`polykern_kernels.profiles`).
For float rows it is the member with the least sum of squared distances, which is the one nearest to the mean.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.errors import UsageError
from polykern.halves import halved
from polykern_kernels import hamming, profiles

Integers = NDArray[np.int64]
Reals = NDArray[np.float64]

LESS = "fewer rows, or more memory"
BUDGET = 1 << 27  # bytes of counts held at a time


@dataclass(frozen=True)
class Members:
    """The clusters of a labelling with their medoids.

    size           int64 (c)      members of each cluster
    medoid         int64 (c)      row of the medoid
    mean_distance  float64 (c)    mean distance of the members from it, itself included
    distance       float64 (n)    distance of every row from its cluster's medoid; -1 for noise
    order          int64 (n)      rows sorted by (label, distance from the medoid, row), noise last
    starts         int64 (c + 1)  cluster c holds order[starts[c] : starts[c + 1]], nearest first
    """

    size: Integers
    medoid: Integers
    mean_distance: Reals
    distance: Reals
    order: Integers
    starts: Integers

    def of(self, cluster: int) -> Integers:
        """int64 (size): the members of a cluster, nearest to the medoid first."""
        return self.order[self.starts[cluster] : self.starts[cluster + 1]]


@dataclass(frozen=True)
class Telling:
    """The bits of one cluster that differ most from the rest.

    cluster  its label
    bits     int64 (k)     positions, most telling first
    inside   float64 (k)   share of the members that have the bit
    outside  float64 (k)   share of all other rows, noise included, that have it; 0 when there are none
    """

    cluster: int
    bits: Integers
    inside: Reals
    outside: Reals


def grouped(labels: Integers) -> tuple[Integers, Integers]:
    """The rows of every cluster.

    labels   int (n)   0 ... c - 1, every one of them in use; -1 is noise
    returns  int64 (rows that are not noise)   sorted by (label, row)
             int64 (c + 1)                     cluster k holds rows[starts[k] : starts[k + 1]]

    Errors: UsageError for labels below -1 and for a cluster without members.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise UsageError(f"labels are integers (n), got {labels.dtype} {list(labels.shape)}")
    if labels.size and labels.min() < -1:
        raise UsageError(f"labels are -1 or a cluster, got {labels.min()}")
    sizes = np.bincount(labels[labels >= 0]) if (labels >= 0).any() else np.zeros(0, np.int64)
    if (sizes == 0).any():
        raise UsageError(f"cluster {int(np.argmin(sizes))} has no members", fix="number the clusters 0, 1, 2, ...")
    rows = np.argsort(labels, kind="stable")[int((labels < 0).sum()) :]
    return rows.astype(np.int64), np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def of_codes(words: Tensor, bits: int, labels: Integers, *, metric: str = "hamming") -> Members:
    """The medoids of clusters of codes.

    words    int32 (n, words)   packed codes
    bits     bits of a code
    labels   int (n)            -1 is noise
    metric   "hamming": distances are bits that differ. "jaccard": 1 - |a & b| / |a | b|, 0 for two empty codes;
             the medoid is still the one by Hamming, because sums of Jaccard distances need every pair

    Exact; O(n bits) for any sizes. Memory: `BUDGET` of counts and a copy of the codes of one block.
    Errors: UsageError for another metric or labels that do not fit.
    """
    if metric not in ("hamming", "jaccard"):
        raise UsageError(f"codes have no metric {metric!r}", fix="hamming or jaccard")
    rows, starts = _grouped(labels, len(words))
    medoid = np.empty(len(starts) - 1, np.int64)

    def least(some: range) -> Integers:
        taken, edges, count = _counted(words, bits, rows, starts, some)
        scatter = profiles.sums(words, taken, edges, (edges.diff()[:, None] - 2 * count).to(torch.int32))
        return _least(scatter.cpu().numpy(), rows, starts, some.start, some.stop)

    for some in _blocks(bits, starts):
        medoid[some.start : some.stop] = np.concatenate(halved(least, some, what="a cluster's counts", fix=LESS))
    owner = np.repeat(medoid, np.diff(starts))

    def apart(some: range) -> Tensor:
        one, other = (words[torch.from_numpy(i[some.start : some.stop]).to(words.device)] for i in (rows, owner))
        return _apart(one, other, metric).cpu()

    away = [torch.empty(0, dtype=torch.float64)]
    step = max(1, BUDGET // max(1, 8 * words.shape[1]))
    for k in range(0, len(rows), step):
        away += halved(apart, range(k, min(k + step, len(rows))), what="a pair of codes", fix=LESS)
    return _members(len(words), rows, starts, medoid, torch.cat(away).numpy())


def of_rows(x: Tensor, labels: Integers) -> Members:
    """The medoids of clusters of float rows by Euclidean distance.

    x        float (n, d)   rows
    labels   int (n)        -1 is noise

    The medoid is the member with the least sum of *squared* distances from the members, that is the one nearest to
    their mean; the mean and the distances from it are float64, and of equal ones the smallest row is taken. The
    distances are those of `polykern.clustering.euclidean`.
    Errors: UsageError for labels that do not fit.
    """
    from polykern.clustering.euclidean import distances

    rows, starts = _grouped(labels, len(x))
    medoid = np.empty(len(starts) - 1, np.int64)
    away = np.empty(len(rows))
    step = max(1, BUDGET // max(1, 16 * x.shape[1]))
    for c in range(len(medoid)):
        first, last = int(starts[c]), int(starts[c + 1])
        mine = torch.from_numpy(rows[first:last]).to(x.device)
        blocks = list(mine.split(step))
        mean = torch.stack([x[b].double().sum(0) for b in blocks]).sum(0) / len(mine)
        spread = torch.cat([(x[b].double() - mean).square().sum(1) for b in blocks])
        best = int(spread.cpu().numpy().argmin())  # numpy's is the first of equal ones
        medoid[c] = rows[first + best]
        away[first:last] = distances(x, mine, mine[best].expand(len(mine))).cpu().numpy()
    return _members(len(x), rows, starts, medoid, away)


def telling_bits(words: Tensor, bits: int, labels: Integers, most: int = 20) -> Iterator[Telling]:
    """For every cluster the bits whose share inside is farthest from the share outside.

    words    int32 (n, words)   packed codes
    bits     bits of a code
    labels   int (n)            -1 is noise, which counts as outside of every cluster
    most     bits wanted of each

    Yields cluster by cluster, so that no table of clusters x bits is held. Exact counts; the shares are float64.
    Equal differences are ordered by position. Errors: UsageError for labels that do not fit or `most` below 1.
    """
    if most < 1:
        raise UsageError(f"at least one bit is wanted, got {most}")
    rows, starts = _grouped(labels, len(words))
    n, device = len(words), words.device
    everything = torch.arange(n, device=device), torch.tensor([0, n], device=device)
    total = profiles.counts(words, *everything, bits)[0].double()

    def telling(some: range) -> list[Telling]:
        _, edges, count = _counted(words, bits, rows, starts, some)
        found = []
        for k, size in enumerate(edges.diff().tolist()):
            inside = count[k].double() / size
            outside = (total - count[k]) / max(1, n - size)
            apart = (inside - outside).abs().cpu().numpy()
            best = np.argsort(-apart, kind="stable")[:most]
            shares = (share.cpu().numpy()[best] for share in (inside, outside))
            found.append(Telling(some[k], best.astype(np.int64), *shares))
        return found

    for some in _blocks(bits, starts):
        for part in halved(telling, some, what="a cluster's counts", fix=LESS):
            yield from part


def _grouped(labels: Integers, n: int) -> tuple[Integers, Integers]:
    if len(labels) != n:
        raise UsageError(f"{len(labels)} labels for {n} rows")
    return grouped(labels)


def _blocks(bits: int, starts: Integers) -> Iterator[range]:
    """Clusters whose counts are held together."""
    step = max(1, BUDGET // max(1, 16 * bits))  # counts, weights, and 64-bit weights of a cluster
    for first in range(0, len(starts) - 1, step):
        yield range(first, min(len(starts) - 1, first + step))


def _counted(
    words: Tensor, bits: int, rows: Integers, starts: Integers, some: range
) -> tuple[Tensor, Tensor, Tensor]:
    """The rows of some clusters, where each cluster's begin, and the counts (clusters, bits)."""
    low = starts[some.start]
    taken = torch.from_numpy(rows[low : starts[some.stop]]).to(words.device)
    edges = torch.from_numpy(starts[some.start : some.stop + 1] - low).to(words.device)
    return taken, edges, profiles.counts(words, taken, edges, bits)


def _least(scatter: NDArray[np.int64], rows: Integers, starts: Integers, first: int, last: int) -> Integers:
    """The row with the least sum in each cluster; rows ascend within a cluster, so the first of equal ones."""
    low = int(starts[first])
    edges = starts[first : last + 1] - low
    least = np.minimum.reduceat(scatter, edges[:-1])
    hits = np.flatnonzero(scatter == np.repeat(least, np.diff(edges)))
    return rows[low + hits[np.searchsorted(hits, edges[:-1])]]


def _apart(a: Tensor, b: Tensor, metric: str) -> Tensor:
    """float64 (n): distances of aligned codes."""
    differ = hamming.aligned(a, b).double()
    if metric == "hamming":
        return differ
    either = sum(hamming.aligned(x, torch.zeros_like(x)).double() for x in (a, b)) + differ
    return torch.where(either > 0, 2 * differ / either.clamp(min=1), 0.0)


def _members(n: int, rows: Integers, starts: Integers, medoid: Integers, away: Reals) -> Members:
    sizes = np.diff(starts)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    distance = np.full(n, -1.0)
    distance[rows] = away
    noise = np.setdiff1d(np.arange(n), rows, assume_unique=True)
    order = np.concatenate([rows[np.lexsort((rows, away, owner))], noise]).astype(np.int64)
    mean = np.add.reduceat(away, starts[:-1]) / sizes if len(sizes) else np.zeros(0)
    return Members(sizes, medoid, mean, distance, order, starts)
