"""A store behind a URL: small files are read, large ones fetched whole into a cache on this machine.

Any file system of fsspec will do: s3://bucket/NAME.codes, gs://, https://, memory://. Nothing is mapped across a
network. A shard is fetched when its rows are first asked for, and kept under the hash in its record, so that no
other shard is ever taken for it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from polykern.caches import folder
from polykern.errors import PolykernError, ResourceError, UsageError
from polykern.store.disk import digest_of, make_folder, put, remove
from polykern.store.files import MAX_JSON
from polykern.store.records import NUMBERED, Mark

BLOCK = 8 << 20  # bytes fetched at a time


class Remote:
    """A store behind a URL of fsspec.

    url  of its folder

    Errors: UsageError when fsspec knows no such kind of URL, ResourceError when it cannot be reached.
    """

    far = True

    def __init__(self, url: str) -> None:
        import fsspec

        self.where = url.rstrip("/")
        try:
            self._system, self._root = fsspec.core.url_to_fs(self.where)
        except (ImportError, ValueError) as reason:
            raise UsageError(f"{url} cannot be opened", why=str(reason)) from None
        self._small: dict[str, bytes] = {}
        self._sizes: dict[str, dict[str, int]] = {}

    def names(self, folder: str) -> dict[str, int]:
        """Name -> size in bytes of the numbered files in a folder."""
        if folder not in self._sizes:
            with self._reached(folder):
                entries = [e for e in self._listed(folder) if e.get("type") == "file"]
                found = {str(e["name"]).rpartition("/")[2]: int(e.get("size") or 0) for e in entries}
                found = {name: size for name, size in found.items() if NUMBERED.fullmatch(name)}
                small = [n for n, size in found.items() if n.endswith(".json") and size <= MAX_JSON]
                self._cat(folder, small)
            self._sizes[folder] = found
        return self._sizes[folder]

    def _listed(self, folder: str) -> list[dict[str, Any]]:
        try:
            return list(self._system.ls(f"{self._root}/{folder}", detail=True))
        except FileNotFoundError:
            return []

    def _cat(self, folder: str, names: list[str]) -> None:
        """Read small files at once: one after the other, a thousand shards are a thousand round trips."""
        if names:
            found = self._system.cat([f"{self._root}/{folder}/{name}" for name in names])
            self._small |= {f"{folder}/{path.rpartition('/')[2]}": data for path, data in found.items()}

    def text(self, name: str) -> bytes:
        """The bytes of a small file; FileNotFoundError, or ValueError when it is not small."""
        if name not in self._small:
            path = f"{self._root}/{name}"
            with self._reached(name):
                if self._system.info(path)["size"] > MAX_JSON:
                    raise ValueError(f"is larger than {MAX_JSON >> 20} MiB")
                self._small[name] = self._system.cat_file(path)
        return self._small[name]

    def fetched(self, mark: Mark) -> Path:
        """The file in the cache, fetched whole when it is not there; ValueError for another than recorded."""
        kept = cache() / mark.xxh3_128[:2] / f"{mark.xxh3_128}.safetensors"
        if kept.is_file() and digest_of(kept) == mark.xxh3_128:
            return kept
        make_folder(kept.parent)
        with self._reached(mark.name), self._system.open(f"{self._root}/{mark.name}", "rb") as far:
            digest = put(kept, _read(far, mark.bytes))[1]
        if digest != mark.xxh3_128:
            remove([kept])
            raise ValueError(f"its bytes hash to {digest}, its record says {mark.xxh3_128}")
        return kept

    @contextmanager
    def _reached(self, name: str) -> Iterator[None]:
        """A context in which whatever a far file system raises says what could not be reached."""
        try:
            yield
        except (FileNotFoundError, ValueError, PolykernError):
            raise
        except Exception as reason:
            raise ResourceError(f"{self.where}/{name} cannot be reached", why=str(reason)) from reason


def _read(far: IO[bytes], size: int) -> Iterator[bytes]:
    """The bytes of a far file; ValueError when there are more or fewer than recorded."""
    while block := far.read(BLOCK):
        size -= len(block)
        if size < 0:
            break
        yield block
    if size:
        raise ValueError("has another size than its record says")


def cache() -> Path:
    """The folder of fetched shards, within the user's cache."""
    return folder() / "shards"
