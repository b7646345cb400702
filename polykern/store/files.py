"""The files of a store on this machine, reached by names that cannot lead out of its folder."""

import os
import stat
from pathlib import Path
from typing import Protocol

from polykern.errors import CorruptError
from polykern.store.records import ITEMS, NUMBERED, SHARDS, Mark

MANIFEST = "manifest.json"
MAX_JSON = 64 << 20  # bytes; a manifest is a few kilobytes


class Files(Protocol):
    """Where a store lies: on this machine or behind a URL."""

    where: str
    far: bool  # whether a large file has to be fetched before it can be read

    def names(self, folder: str) -> dict[str, int]:
        """Name -> size in bytes of the files of "shards" or "items"; others are left out."""
        ...

    def text(self, name: str) -> bytes:
        """The bytes of a small file; FileNotFoundError, or ValueError with what is wrong with it."""
        ...

    def fetched(self, mark: Mark) -> Path:
        """A regular file on this machine with the content of a large one; errors as of `text`."""
        ...


class Folder:
    """A store in a folder of this machine.

    root  the folder; names in it may be links, but not to anything outside of it
    """

    far = False

    def __init__(self, root: Path) -> None:
        self.root, self.where = root, str(root)
        self._inside = Path(os.path.realpath(root))

    def names(self, folder: str) -> dict[str, int]:
        """Name -> size in bytes of the numbered files in a folder; what is none of ours is left out."""
        assert folder in (SHARDS, ITEMS)
        try:
            with os.scandir(self.root / folder) as entries:
                return {e.name: e.stat().st_size for e in entries if NUMBERED.fullmatch(e.name) and e.is_file()}
        except (FileNotFoundError, NotADirectoryError):
            return {}

    def text(self, name: str) -> bytes:
        """The bytes of a small file; FileNotFoundError, or ValueError with what is wrong with it."""
        path = self._path(name)
        size = path.stat().st_size
        if size > MAX_JSON:
            raise ValueError(f"is larger than {MAX_JSON >> 20} MiB")
        with path.open("rb") as f:
            return f.read(MAX_JSON)

    def fetched(self, mark: Mark) -> Path:
        """The file itself; FileNotFoundError, or ValueError when it leads outside or is no regular file."""
        return self._path(mark.name)

    def _path(self, name: str) -> Path:
        path = self.root / name
        real = Path(os.path.realpath(path))
        if not real.is_relative_to(self._inside):
            raise ValueError("is a link that leads out of the store")
        if not stat.S_ISREG(real.stat().st_mode):
            raise ValueError("is no regular file")
        return path


def opened(where: Path | str) -> Files:
    """The files of the store at a path or URL; CorruptError when there is no folder."""
    text = str(where)
    if "://" in text and not text.startswith("file://"):
        from polykern.store.remote import Remote

        return Remote(text)
    root = Path(text.removeprefix("file://"))
    if not root.is_dir():
        raise CorruptError(f"{root}: not there", why=f"a store of codes is a folder with a {MANIFEST} in it")
    return Folder(root)
