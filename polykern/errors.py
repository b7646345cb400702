"""What can go wrong, each with its exit code: 2 usage, 3 corrupt, 4 resources, 5 missing, 6 mismatch."""

import errno

# in what torch, cuBLAS, oneDNN, Triton, the loader and Python say when memory does not suffice
SCARCE = (
    "out of memory", "defaultcpuallocator", "bad_alloc", "alloc_failed", "could not create a primitive",
    "cannot allocate memory", "can't start new thread",
)  # fmt: skip


class PolykernError(Exception):
    """An error a person can act on: what happened, why, and the fix, one line each."""

    exit_code = 1

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        self.what, self.why, self.fix = what, why, fix
        super().__init__("\n".join(line for line in (what, why, fix) if line))


class UsageError(PolykernError, ValueError):
    """The call asks for something that does not exist or does not fit."""

    exit_code = 2


class CorruptError(PolykernError):
    """A file or an input is damaged: bad values, torn data, another format."""

    exit_code = 3


class ResourceError(PolykernError):
    """Memory, disk or time would not suffice."""

    exit_code = 4


class RankLost(ResourceError):
    """Another process of the run has ended, or does not answer."""


class MissingExtra(PolykernError, ImportError):
    """An optional package is needed; the message holds the exact pip line."""

    exit_code = 5

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(what, fix=f"pip install 'polykern[{extra}]'")


class MismatchError(PolykernError):
    """What lies on disk belongs to another run."""

    exit_code = 6


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice, of the host or of a device, whoever raised it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError | ImportError) and any(word in str(error).lower() for word in SCARCE)


def first_line(error: BaseException) -> str:
    """The first line of what an error says; its name where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
