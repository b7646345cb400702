"""Codes of pictures: an image network looks at photographs, as a whole or place by place.

Place by place (Black et al. 2022, footnote on InceptionV1): the code of a row is that of the channels of one
"hyperpixel" of a feature map. Any other numbered examples of a subject are read in the same way.
"""

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polykern.capturing.sequences import Tally
from polykern.capturing.unit import State, Unit
from polykern.capturing.watch import Kept, Watch
from polykern.errors import CorruptError, UsageError
from polykern.models import Example, Subject
from polykern.store import Pictures

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".npy")
BATCH = 16  # pictures of a pass
LISTED = 20
Places = str | tuple[int, int]  # "whole", "all", "centre" or (y, x)


def places(word: str) -> Places:
    """What whole, all, centre or Y,X stands for; raises UsageError for any other word."""
    if word in ("whole", "all", "centre"):
        return word
    y, _, x = word.partition(",")
    if y.isdecimal() and x.isdecimal():
        return int(y), int(x)
    raise UsageError(f"there are no positions {word!r}", fix="whole, all, centre or Y,X")


@dataclass
class _Shown:
    """An example until it is run: its input is forgotten then."""

    input: Tensor | None
    png: bytes


class PictureSource:
    """A network and pictures.

    subject  the network, with a reader of files
    watch    of the network, by "cells" for places and by "items" for whole pictures
    folder   of pictures, those of subfolders labelled by these; None: the subject's numbered examples
    at       "all" places of the feature maps, the "centre" (H // 2, W // 2), one (y, x), or "whole" pictures
    limit    pictures at most
    strict   a file that holds no picture ends the run instead of being passed over
    batch    pictures of a pass

    Columns: doc, the number of the picture; pos, the place in row-major order, 0 for whole pictures; token, the
    class or -1. Errors: UsageError when there are no pictures.
    """

    columns = ("doc", "pos", "token")

    def __init__(
        self, subject: Subject, watch: Watch, *, folder: Path | None = None, at: Places = "whole",
        limit: int | None = None, strict: bool = False, batch: int = BATCH,
    ) -> None:  # fmt: skip
        self.subject, self.watch, self.at = subject, watch, at
        self.strict, self.batch = strict, batch
        self.noun = "pictures" if at == "whole" else "places"
        self.classes: tuple[str, ...] | None = subject.classes
        if folder is None:
            self._entries: list[tuple[str | int, int]] = _numbered(subject)
        else:
            self._entries, self.classes = _files(folder)
        self._folder = folder
        self._entries = self._entries[:limit]
        self.limit, self._read, self.tally = limit, 0, Tally()
        first = next((e for e in map(self._example, range(len(self._entries))) if e is not None), None)
        if first is None:
            raise UsageError("there are no pictures to capture", why="; ".join(self.tally.listed[:3]))
        self._first, self.tally = first, Tally()
        self.items = "image" if first.thumbnail is not None else None

    @property
    def window(self) -> int:
        """Pictures that are read before they are run."""
        return self.batch

    @property
    def ahead(self) -> int:
        """As many as are run together."""
        return self.window

    @property
    def counted(self) -> str:
        """Pictures."""
        return "pictures"

    @property
    def again(self) -> bool:
        """Files can be read again."""
        return True

    def config(self) -> dict[str, Any]:
        """Everything that changes a byte of the store."""
        lines = "".join(f"{name}\0{self._size(name)}\0{label}\n" for name, label in self._entries)
        return {
            "model": {"name": self.subject.name, "weights": self.subject.weights},
            "device": self._moved(torch.empty(0)).device.type,
            "pictures": {
                "count": len(self._entries),
                "sha256": hashlib.sha256(lines.encode("utf-8", "replace")).hexdigest(),
                "first": hashlib.sha256(self._first.input.contiguous().numpy().tobytes()).hexdigest(),
            },
            "positions": self.at if isinstance(self.at, str) else list(self.at),
            "limit": self.limit,
        }

    def about(self) -> dict[str, Any]:
        """What people want to know: the grid and the size of the pictures among it, in rows and columns."""
        shown = self._first.thumbnail
        whole = self.at == "whole"
        return {
            "kind": "image",
            "model": {"name": self.subject.name, "note": self.subject.note, "weights": self.subject.weights},
            "grid": None if whole or self.watch.grid is None else list(self.watch.grid),
            "picture": None if shown is None else list(shown.shape[:2]),
            "classes": None if self.classes is None else list(self.classes),
            "examples": self.subject.examples.noun if self._folder is None else "picture",
        }

    def summary(self) -> dict[str, Any]:
        """What was passed over."""
        return {"passed_over": self.tally.passed, "passed_over_first": list(self.tally.listed)}

    def probe(self) -> None:
        """Run the first picture, so that layout and grid are known; raises UsageError when a place is outside."""
        self.watch.run(self._moved(self._first.input[None]))
        self._cells()

    def units(self, state: State | None) -> Iterator[Unit]:
        """The pictures behind a state."""
        self._read, doc, self.tally = 0, 0, Tally()
        if state is not None:
            self._read, doc = int(state["read"]), int(state["doc"])
            self.tally = Tally(state["passed"], tuple(state["listed"]))
        cells = self._cells()
        while self._read < len(self._entries):
            number, self._read = self._read, self._read + 1
            example = self._example(number)
            if example is None:
                continue
            png = b"" if example.thumbnail is None or self.items is None else encoded(example.thumbnail)
            rows = np.full(len(cells), 1, np.int32)
            columns = {"doc": rows * doc, "pos": cells.astype(np.int32), "token": rows * self._entries[number][1]}
            doc += 1
            passed, listed, _ = self.tally
            after = {"read": self._read, "doc": doc, "passed": passed, "listed": list(listed)}
            yield Unit(doc - 1, columns, cells, _Shown(example.input, png), example.label, len(png) + 12, after)

    def run(self, units: Sequence[Unit]) -> Kept:
        """The codes of some pictures."""
        inputs = torch.stack([u.data.input for u in units])
        each = 1 if self.watch.grid is None else self.watch.grid[0] * self.watch.grid[1]
        keep = torch.from_numpy(np.concatenate([k * each + u.keep for k, u in enumerate(units)]))
        try:
            kept = self.watch.run(self._moved(inputs), keep)
        except CorruptError as error:
            named = ", ".join(u.label for u in units[:3])
            raise CorruptError(
                f"{error.what}, among pictures {units[0].doc} ...: {named}", why=error.why
            ) from error
        for unit in units:
            unit.data.input = None
        return kept

    def seen(self, units: Sequence[Unit]) -> Pictures | None:
        """The pictures as the network sees them."""
        return Pictures.of((u.doc, u.data.png) for u in units) if self.items else None

    def largest(self) -> Unit:
        """The first picture."""
        png = b"" if self._first.thumbnail is None else encoded(self._first.thumbnail)
        return Unit(0, {}, self._cells(), _Shown(self._first.input, png), self._first.label, len(png) + 12, {})

    def load(self, units: Sequence[Unit]) -> int:
        """Pictures."""
        return len(units)

    def most(self) -> int | None:
        """The rows of all pictures."""
        return len(self._cells()) * len(self._entries)

    def expected(self, units: Sequence[Unit]) -> int | None:
        """Rows of all pictures that can be read."""
        return units[0].rows * len(self._entries)

    def progress(self) -> tuple[int, int] | None:
        """Pictures read."""
        return self._read, len(self._entries)

    # --- inside ---------------------------------------------------------------------------------

    def _cells(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The rows of a picture that are kept."""
        if self.watch.grid is None:
            return np.zeros(1, np.int64)
        high, wide = self.watch.grid
        if self.at == "all":
            return np.arange(high * wide, dtype=np.int64)
        y, x = (high // 2, wide // 2) if isinstance(self.at, str) else self.at
        if not (y < high and x < wide):
            raise UsageError(f"there is no place {y},{x}", why=f"the feature maps have {high} x {wide}")
        return np.array([y * wide + x], np.int64)

    def _example(self, number: int) -> Example | None:
        name, _ = self._entries[number]
        try:
            if self._folder is None:
                return self.subject.examples.at(int(name))
            return self.subject.examples.read(self._folder / str(name))._replace(label=str(name))
        except (UsageError, OSError) as error:
            what = error.what if isinstance(error, UsageError) else str(error)
            if self.strict:
                raise CorruptError(what, fix="without --strict it is passed over") from error
            passed, listed, _ = self.tally
            said = what.encode("utf-8", "replace").decode()
            self.tally = Tally(passed + 1, (*listed, said) if len(listed) < LISTED else listed)
            return None

    def _size(self, name: str | int) -> int:
        return 0 if self._folder is None else (self._folder / str(name)).stat().st_size

    def _moved(self, x: Tensor) -> Tensor:
        parameter = next(self.subject.model.parameters(), x)
        return x.to(parameter.device)


def encoded(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """The PNG file of pixels uint8 (H, W, 3)."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _numbered(subject: Subject) -> list[tuple[str | int, int]]:
    targets = subject.examples.targets
    return [(k, -1 if targets is None else targets[k]) for k in range(len(subject.examples))]


def _files(folder: Path) -> tuple[list[tuple[str | int, int]], tuple[str, ...] | None]:
    """Names below a folder in order, with the numbers of their subfolders as labels; and the subfolders' names."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder of pictures")
    found = (p.relative_to(folder) for p in folder.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
    names = sorted(name for name in found if not any(part.startswith(".") for part in name.parts))
    kinds = sorted({name.parts[0] for name in names if len(name.parts) > 1})
    labels = {kind: k for k, kind in enumerate(kinds)}
    entries: list[tuple[str | int, int]] = [(name.as_posix(), labels.get(name.parts[0], -1)) for name in names]
    return entries, tuple(kinds) if kinds else None
