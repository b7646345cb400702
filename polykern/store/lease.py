"""One writer at a time: a lock on a file in the store, given back by the system when its process dies."""

import errno
import logging
import os
from pathlib import Path

from polykern.errors import ResourceError
from polykern.store.disk import told

NAME = ".writer"
LOCKLESS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}  # some clusters mount their disks so
log = logging.getLogger("polykern.store")


class Lease:
    """The right to write into a folder, held until `release`.

    folder  that is written into

    The lock is advisory (flock) and holds between processes of one machine, and between machines where the file
    system carries it; where it has no locks a warning says so.

    Errors: ResourceError when another writer holds it, naming its process.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._descriptor: int | None = None
        with told(self.path):
            while self._descriptor is None:
                self._descriptor = self._attempt()

    def _attempt(self) -> int | None:
        """A locked descriptor; None when the file was given back in between."""
        import fcntl

        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as reason:
                if reason.errno not in LOCKLESS:
                    raise
                log.warning(
                    "%s has no locks (%s): let no other process write it", self.path.parent, reason.strerror
                )
            held, named = os.fstat(descriptor), self._named()
            if (held.st_dev, held.st_ino) != named:
                os.close(descriptor)
                return None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace")
            os.close(descriptor)
            raise ResourceError(
                f"{self.path.parent} is being written by another process",
                why=f"process {holder or '?'} holds {self.path.name}",
                fix="wait until it has ended, or write into another folder",
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _named(self) -> tuple[int, int] | None:
        try:
            found = self.path.lstat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def release(self) -> None:
        """Give the folder back; the file goes away while it is still locked."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            try:
                with told(self.path):
                    self.path.unlink(missing_ok=True)
            finally:
                os.close(descriptor)
