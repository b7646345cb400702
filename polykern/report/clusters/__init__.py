"""A clustering to read: `write` makes a folder of pages that opens from a disk, with nothing fetched."""

from polykern.report.clusters.page import write as write
