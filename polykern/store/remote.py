"""A store behind a URL: small files are read, large ones fetched whole into a cache on this machine.

Any file system of fsspec will do: s3://bucket/NAME.codes, gs://, https://, memory://. Nothing is mapped across a
network; a shard is fetched when its rows are first asked for, checked against its record and kept.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

from polykern.errors import MissingExtra, ResourceError
from polykern.store.disk import put
from polykern.store.files import MAX_JSON
from polykern.store.records import NUMBERED

BLOCK = 8 << 20
CACHE = "POLYKERN_CACHE"


class Remote:
    """A store behind a URL of fsspec.

    url  of its folder

    Errors: MissingExtra when fsspec needs a package for this kind of URL, ResourceError when it cannot be reached.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.where = url.rstrip("/")
        try:
            self._system, self._root = fsspec.core.url_to_fs(self.where)
        except ImportError as reason:
            raise MissingExtra(f"{url} needs a package of fsspec: {reason}", "data") from None
        except ValueError as reason:
            raise ResourceError(f"{url} cannot be reached", why=str(reason)) from None
        self._small: dict[str, bytes] = {}
        self._sizes: dict[str, dict[str, int]] = {}

    def names(self, folder: str) -> dict[str, int]:
        """Name -> size in bytes of the numbered files in a folder."""
        if folder not in self._sizes:
            found = {}
            for entry in self._listed(folder):
                name = str(entry["name"]).rstrip("/").rpartition("/")[2]
                if NUMBERED.fullmatch(name) and entry.get("type") == "file":
                    found[name] = int(entry.get("size") or 0)
            self._sizes[folder] = found
            small = [f"{self._root}/{folder}/{n}" for n, size in found.items() if _is_small(n, size)]
            for path, data in (self._system.cat(small) if small else {}).items():
                self._small[f"{folder}/{path.rpartition('/')[2]}"] = data
        return self._sizes[folder]

    def _listed(self, folder: str) -> list[dict[str, Any]]:
        try:
            return list(self._system.ls(f"{self._root}/{folder}", detail=True))
        except FileNotFoundError:
            return []

    def text(self, name: str) -> bytes:
        """The bytes of a small file; FileNotFoundError, or ValueError when it is not small."""
        if name not in self._small:
            path = f"{self._root}/{name}"
            if self._system.info(path)["size"] > MAX_JSON:
                raise ValueError(f"is larger than {MAX_JSON >> 20} MiB")
            self._small[name] = self._system.cat_file(path)
        return self._small[name]

    def path(self, name: str) -> Path:
        """The file in the cache, fetched whole when it is not there; one of another size is fetched again."""
        kept = self._kept(name)
        size = int(self._system.info(f"{self._root}/{name}")["size"])
        if not kept.is_file() or kept.stat().st_size != size:
            kept.parent.mkdir(parents=True, exist_ok=True)
            with self._system.open(f"{self._root}/{name}", "rb") as far:
                put(kept, iter(lambda: far.read(BLOCK), b""))
        return kept

    def _kept(self, name: str) -> Path:
        """Where a file is kept: under the URL and the config, so that another store is another file."""
        of = hashlib.sha256(self.where.encode() + b"\0" + self._config_hash()).hexdigest()[:32]
        return cache() / of / name

    def _config_hash(self) -> bytes:
        from polykern.store.manifest import Manifest

        return Manifest.decoded(self.text("manifest.json")).config_hash.encode()


def cache() -> Path:
    """The folder of fetched shards: $POLYKERN_CACHE/stores, or polykern/stores in the user's cache folder."""
    named = os.environ.get(CACHE)
    if named:
        return Path(named) / "stores"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "polykern" / "stores"


def _is_small(name: str, size: int) -> bool:
    return name.endswith(".json") and size <= MAX_JSON
