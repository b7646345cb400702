"""Findings: what an experiment gives - numbers, tables and figures - and the folder they are kept in.

A folder holds a CSV file a table, with all the rows that a figure was drawn from; the figures as PNG; and, written
last, one JSON file with every headline number, the settings, the seed, the versions and the digests of the other
files. Equal input and seed give equal bytes.
"""

import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from polykern.errors import UsageError
from polykern.models import Subject
from polykern.report import figures
from polykern.report.script import visible_all
from polykern.store.disk import leftovers, make_folder, put, remove
from polykern.store.inventory import account
from polykern.tail import Tail
from polykern.versions import recorded

if TYPE_CHECKING:
    from polykern.models.language import Language

RECORDED = ("polykern", "torch", "numpy", "scipy", "scikit-learn")
Table = Mapping[str, NDArray[Any] | Sequence[Any]]  # column -> values, all of one length


@dataclass(frozen=True)
class Picture:
    """A figure that is not drawn yet.

    width, height  px
    draw           fills an empty matplotlib figure (`polykern.report.charts` has its panels)
    """

    width: int
    height: int
    draw: Callable[[Any], None]


@dataclass(frozen=True, eq=False)
class Findings(ABC):
    """What an experiment found.

    about  what it is of and how it was made: model, weights, start, stop, seed, settings, versions

    A subclass adds its arrays as fields and says what they come to.
    """

    about: dict[str, Any]

    SCHEMA: ClassVar[str]  # "polykern-pairs/1"

    @abstractmethod
    def numbers(self) -> dict[str, Any]:
        """The headline numbers, with their intervals, as JSON can hold them."""

    @abstractmethod
    def tables(self) -> dict[str, Table]:
        """Every number behind the figures: name of a CSV file without its ending -> columns."""

    @abstractmethod
    def pictures(self) -> dict[str, Picture]:
        """The figures: name of a PNG file without its ending -> picture; the first is the main one."""

    def keep(self, folder: Path) -> list[Path]:
        """Write what the folder holds beside tables and figures, so that it can be opened again: nothing."""
        return []

    def summary(self) -> dict[str, Any]:
        """The JSON object: schema, what it is of, the numbers."""
        return {"schema": self.SCHEMA, **self.about, "numbers": self.numbers()}

    @property
    def name(self) -> str:
        """Of the JSON file: "pairs" of "polykern-pairs/1"."""
        return self.SCHEMA.partition("/")[0].removeprefix("polykern-")

    def plot(self, path: Path | str, which: str | None = None) -> Path:
        """Draw a figure into a PNG file.

        path   a file that is there is replaced
        which  a name of `pictures`; None: the main one

        Raises UsageError for a name that there is not, or a file that is no .png.
        """
        every, path = self.pictures(), Path(path)
        chosen = next(iter(every)) if which is None else which
        if chosen not in every:
            raise UsageError(f"there is no figure {chosen!r}", fix=f"choose one of {', '.join(every)}")
        if path.suffix != ".png":
            raise UsageError(f"no picture {path.name}", fix="end the name with .png")
        picture = every[chosen]
        return figures.plot(path, picture.width, picture.height, picture.draw)

    def save(self, folder: Path | str, *, overwrite: bool = False, pictures: bool = True) -> list[Path]:
        """Write tables, figures and, last, the JSON file into a folder; returns the files.

        Raises UsageError where the folder holds something already and `overwrite` is not set.
        """
        root = Path(folder)
        require_free(root, overwrite=overwrite)
        make_folder(root)
        about = root / f"{self.name}.json"
        remove([about, *leftovers(root)])  # what is there is no longer what it says
        written = []
        for name, table in self.tables().items():
            written.append(root / f"{name}.csv")
            put(written[-1], [_csv(table)])
        if pictures:
            written += [self.plot(root / f"{name}.png", name) for name in self.pictures()]
        written += self.keep(root)
        put(about, [account(visible_all(finite(self.summary())), root, written)])
        return [*written, about]


def require_free(folder: Path, *, overwrite: bool = False) -> None:
    """Raise UsageError where a folder holds something already, before anything is computed for it."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", fix="name another one")
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise UsageError(f"{folder} is not empty", fix="name another folder, or --overwrite")


def provenance(
    subject: "Subject | Language", tail: Tail | None = None, *, seed: int, **settings: Any
) -> dict[str, Any]:
    """The `about` of findings on a subject.

    tail      the part of the model that was looked at
    seed      of everything random
    settings  whatever else determines the numbers
    """
    about: dict[str, Any] = {"model": {"name": subject.name, "weights": subject.weights, "note": subject.note}}
    if tail is not None:
        layers = [{"module": f.module, "call": f.call, "kind": f.kind, "bits": f.bits} for f in tail.layout.fields]
        about |= {"start": tail.start, "stop": tail.stop or None, "bits": tail.layout.bits, "layers": layers}
    return {**about, "seed": seed, "settings": settings, "versions": recorded(*RECORDED)}


def finite(value: Any) -> Any:
    """A tree of dicts and lists as JSON can hold it: NaN and infinity are None, NumPy's scalars Python's."""
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    if isinstance(value, np.ndarray):
        return finite(value.tolist())
    if isinstance(value, np.generic):
        return finite(value.item())
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _csv(table: Table) -> bytes:
    """The columns as CSV; floats to the last bit, text as it is."""
    columns = [np.asarray(values).tolist() for values in table.values()]
    if len({len(c) for c in columns}) > 1:
        raise ValueError(f"columns of unequal lengths: {', '.join(f'{k} {len(v)}' for k, v in table.items())}")
    held = io.StringIO()
    writer = csv.writer(held, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*columns, strict=True))
    return held.getvalue().encode()
