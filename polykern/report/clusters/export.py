"""The data behind the pages for other programs: one JSON object a cluster, and columns over all clusters."""

import gzip
import io
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from polykern.report.clusters.records import Record

LINES, COLUMNS = "clusters.jsonl.gz", "columns.safetensors"


class Lines:
    """clusters.jsonl.gz in a folder: the record of a cluster a line, in order. A context manager.

    folder  where it goes
    """

    def __init__(self, folder: Path) -> None:
        self._file = (folder / LINES).open("wb")
        # no time and no name in its head: equal reports are equal bytes
        self._packed = gzip.GzipFile(fileobj=self._file, mode="wb", compresslevel=6, mtime=0, filename="")
        self._text = io.TextIOWrapper(self._packed, encoding="ascii", newline="\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._text.close()
        finally:
            self._packed.close()
            self._file.close()

    def add(self, text: str) -> None:
        """The next line."""
        self._text.write(text + "\n")


def write_columns(folder: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    """columns.safetensors in a folder: named arrays whose first axis is the cluster."""
    from safetensors.numpy import save

    whole = {name: np.ascontiguousarray(values) for name, values in columns.items()}
    (folder / COLUMNS).write_bytes(save(whole))


def telling(record: Record, most: int) -> tuple[list[int], list[float], list[float]]:
    """The telling bits of a record as `most` bits, -1 where there are fewer, and p_in and p_out of each."""
    rows = record["bits"]
    missing = most - len(rows)
    bits = [b for b, _, _ in rows] + [-1] * missing
    inside, outside = ([row[k] for row in rows] + [np.nan] * missing for k in (1, 2))
    return bits, inside, outside
