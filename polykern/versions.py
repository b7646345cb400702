"""Which versions made a result."""

import platform
from importlib import metadata


def version_of(package: str) -> str | None:
    """The version of an installed package, None when it is not there."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def recorded(*packages: str) -> dict[str, str | None]:
    """Python's version and those of some packages."""
    return {"python": platform.python_version(), **{name: version_of(name) for name in packages}}
