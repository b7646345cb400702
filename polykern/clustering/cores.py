"""Core distances: how far a point must look to see min_samples others.

    core(i) = distance of row i to its min_samples-th nearest other row

As in hdbscan and cuML the row itself is not counted (scikit-learn counts it: its min_samples is one more). Equal
rows are others: a point that stands for more than min_samples rows has core distance 0. Campello, Moulavi, Sander
2013, "Density-based clustering based on hierarchical density estimates".
"""

import torch
from torch import Tensor

from polykern.errors import UsageError


def core_distances(distances: Tensor, indices: Tensor, counts: Tensor, min_samples: int) -> Tensor:
    """The core distance of every distinct point.

    distances    int32|float64 (d, k)   of the nearest other points, ascending
    indices      int64 (d, k)           which points these are
    counts       int64 (d)              rows each point stands for
    min_samples  >= 1                   fewer than all rows
    returns      distances' dtype (d)

    Exact. k = min(min_samples, d - 1) neighbours suffice whatever the counts; more do no harm. Raises UsageError
    when min_samples is out of range or the lists are too short to tell.
    """
    d, k = distances.shape
    rows = int(counts.sum())
    if min_samples < 1:
        raise UsageError(f"min_samples must be >= 1, got {min_samples}")
    if min_samples >= rows:
        raise UsageError(
            f"min_samples {min_samples} of {rows} rows",
            why="a row is not its own neighbour, so it has one fewer than there are rows",
            fix=f"take min_samples below {rows}, or more rows",
        )
    if k < min(min_samples, d - 1):
        raise UsageError(
            f"core distances with min_samples {min_samples} need {min(min_samples, d - 1)} neighbours, got {k}"
        )
    seen = (counts[:, None] - 1).expand(d, 1)  # others at distance 0
    if k:
        seen = torch.cat([seen, seen + counts[indices].cumsum(1)], 1)
    place = (seen < min_samples).sum(1, keepdim=True)
    return torch.cat([distances.new_zeros((d, 1)), distances], 1).gather(1, place)[:, 0]
