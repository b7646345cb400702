"""Exact partitions of a plane by a piecewise-linear network: its polytopes as polygons."""

from polykern.subdivision.compute import partition as partition
from polykern.subdivision.result import Partition as Partition

__all__ = ["Partition", "partition"]
