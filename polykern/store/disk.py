"""Files that are there whole or not at all: written beside, synced, renamed, the folder synced."""

import errno
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import xxhash

from polykern.errors import ResourceError

BLOCK = 16 << 20  # bytes written or hashed at a time
TEMPORARY = re.compile(r"\.[^/]{1,80}\.[0-9a-f]{16}\.tmp")


def put(path: Path, parts: Iterable[bytes | memoryview]) -> tuple[int, str]:
    """Write a file so that it is there whole or not at all, also after a power cut.

    path     its name; a file that is there is replaced
    parts    its bytes
    returns  (size in bytes, xxh3-128 in hexadecimal)

    Errors: ResourceError when the disk is full, fails or refuses; nothing is left behind then.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    with told(path):
        try:
            marked = _write(beside, parts)
            os.replace(beside, path)  # noqa: PTH105  (one name for what can be interrupted)
        except BaseException:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    return marked


def _write(path: Path, parts: Iterable[bytes | memoryview]) -> tuple[int, str]:
    size, hashed = 0, xxhash.xxh3_128()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        for part in parts:
            view = memoryview(part)
            for start in range(0, len(view), BLOCK):
                block = view[start : start + BLOCK]
                hashed.update(block)
                size += len(block)
                while len(block):  # a write may be short
                    written = os.write(descriptor, block)
                    if written <= 0:
                        raise OSError(errno.EIO, "the disk takes no more bytes")
                    block = block[written:]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return size, str(hashed.hexdigest())


def digest_of(path: Path) -> str:
    """xxh3-128 of a file, in hexadecimal; about as fast as memory."""
    hashed = xxhash.xxh3_128()
    with path.open("rb") as f:
        while block := f.read(BLOCK):
            hashed.update(block)
    return str(hashed.hexdigest())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder, and those it lies in, so that they last; one that is there is left alone."""
    with told(folder):
        missing = [p for p in (folder, *folder.parents) if not p.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for made in missing:
            sync_folder(made.parent)


def reserve(path: Path) -> None:
    """Take the room of a file that is to be mapped and has holes: a full disk is told now, not by a fault later.

    Errors: ResourceError when there is no room.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    with told(path):
        descriptor = os.open(path, os.O_RDWR)
        try:
            os.posix_fallocate(descriptor, 0, os.fstat(descriptor).st_size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # a disk that cannot promise room
                raise
        finally:
            os.close(descriptor)


def remove(paths: Iterable[Path]) -> None:
    """Remove files in the order given; those that are not there are left out."""
    for path in paths:
        with told(path):
            path.unlink(missing_ok=True)


def leftovers(folder: Path) -> list[Path]:
    """The temporary files that a killed writer left in a folder; none where there is no folder."""
    return sorted(p for p in folder.iterdir() if TEMPORARY.fullmatch(p.name)) if folder.is_dir() else []


@contextmanager
def told(path: Path) -> Iterator[None]:
    """A context in which an error of the operating system becomes a ResourceError that names the file."""
    try:
        yield
    except OSError as error:
        raise ResourceError(
            f"{path} cannot be written",
            why=error.strerror or str(error),
            fix="what was written before is kept; the same command goes on when there is room and leave to write",
        ) from error
