"""Which bits tell a cluster from the rest: how often each is set inside it and outside.

p_in is the share of a cluster's rows in which a bit is 1, p_out the share of all other rows, noise among them.
Counts are exact integers; the bits of a cluster are those with the largest |p_in - p_out|, smaller index first.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.progress import Progress
from polykern.report.clusters.parts import rounded
from polykern.report.clusters.source import Source
from polykern_kernels import profiles

SHOWN = 16  # bits of a cluster
COUNTED = 1 << 25  # counts held for one block of rows

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Profile:
    """What the bits of a cluster say.

    bits    int64 (k): the most telling bits
    inside  float64 (k): p_in of each
    outside float64 (k): p_out
    layers  a row per field of the layout: share of ones inside, outside, mean |p_in - p_out|, bits that are
            the same in every row of the cluster
    """

    bits: Counts
    inside: NDArray[np.float64]
    outside: NDArray[np.float64]
    layers: list[list[float | None]]

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        shares = zip(self.bits.tolist(), self.inside.tolist(), self.outside.tolist(), strict=True)
        return {"bits": [[b, rounded(p), rounded(q)] for b, p, q in shares], "layers": self.layers}


def counted(source: Source, first: int, last: int, progress: Progress) -> tuple[NDArray[np.int32], Counts]:
    """How often every bit is set in the clusters first .. last - 1, and in all rows.

    source       what is counted
    first, last  clusters
    progress     called with the rows that are done
    returns      int32 (last - first, bits), int64 (bits)

    One pass over the store.
    """
    bits = source.layout.bits
    inside, every = np.zeros((last - first, bits), np.int32), np.zeros(bits, np.int64)
    step = max(1, COUNTED // bits)
    for shard in source.store.shards():
        words = shard.codes.words
        labels = source.labels[shard.row0 : shard.row0 + len(words)].astype(np.int64) - first
        for at in range(0, len(words), step):
            _add(inside, every, words[at : at + step], labels[at : at + step])
        progress("bits", shard.row0 + len(words), source.rows)
    return inside, every


def profile(source: Source, inside: NDArray[np.int32], every: Counts, size: int) -> Profile:
    """The profile of one cluster.

    source  for the layout and the number of rows
    inside  int32 (bits): how often each is set in the cluster
    every   int64 (bits): in all rows
    size    of the cluster
    """
    p = inside / size
    rest = source.rows - size
    q = (every - inside) / rest if rest else p
    apart = np.abs(p - q)
    best = _largest(apart, SHOWN)
    starts = [f.offset for f in source.layout.fields]
    same = (inside == 0) | (inside == size)
    sums = [np.add.reduceat(x, starts) for x in (p, q, apart)]
    widths = np.array([f.bits for f in source.layout.fields])
    means = [[rounded(v) for v in s / widths] for s in sums]
    fixed = np.add.reduceat(same.astype(np.int64), starts).tolist()
    return Profile(best, p[best], q[best], [list(row) for row in zip(*means, fixed, strict=True)])


def _largest(values: NDArray[np.float64], k: int) -> Counts:
    """Indices of the k largest, largest first, the smaller index first among equals."""
    if k < len(values):
        least = np.partition(values, len(values) - k)[len(values) - k]
        some = np.flatnonzero(values >= least)
    else:
        some = np.arange(len(values))
    return some[np.argsort(-values[some], kind="stable")][:k]


def _add(inside: NDArray[np.int32], every: Counts, words: Tensor, labels: Counts) -> None:
    """Count the rows of one block; labels are those of `inside`, any other is of no cluster that is counted."""
    wanted = np.flatnonzero((labels >= 0) & (labels < len(inside)))
    wanted = wanted[np.argsort(labels[wanted], kind="stable")]
    groups, starts = np.unique(labels[wanted], return_index=True)
    # one more group: every row of the block
    members = torch.from_numpy(np.concatenate((wanted, np.arange(len(words)))))
    edges = torch.from_numpy(np.concatenate((starts, [len(wanted), len(members)])))
    found = profiles.counts(words, members, edges, len(every)).numpy()
    inside[groups] += found[:-1]
    every += found[-1]
