"""Files that lie in installed packages, found without importing the package."""

from importlib import metadata
from pathlib import Path

from polykern.errors import MissingExtra


def files_of(distribution: str, pattern: str, *, extra: str) -> list[Path]:
    """The installed files of a distribution that match a glob over the ends of their paths; at least one.

    distribution  its name on the package index
    pattern       as in PurePath.match
    extra         of polykern, that installs it

    Raises MissingExtra when the distribution is not installed or holds no such file.
    """
    try:
        listed = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        listed = []
    paths = [Path(str(f.locate())) for f in listed if f.match(pattern)]
    found = [path for path in paths if path.is_file()]
    if not found:
        raise MissingExtra(f"the package {distribution} (its files {pattern}) is not installed", extra)
    return found
