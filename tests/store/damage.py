"""What tests of damaged stores share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tests.store.synthetic as made_up
from polykern.errors import CorruptError
from polykern.store import Store, Writer, verify
from polykern.store.sealed import sealed, unsealed


def named(path: Path, level: str = "full") -> set[str]:
    """The files that `verify` names."""
    return {problem.file for problem in verify(path, level=level)}


def require_refused(path: Path, file: str) -> None:
    """Fail unless the store does not open and says why, and takes no more shards."""
    with pytest.raises(CorruptError, match=file.replace(".", r"\.")) as told:
        Store.open(path)
    assert told.value.exit_code == 3
    with pytest.raises(CorruptError, match=file.replace(".", r"\.")):
        Writer.open(path, made_up.manifest())


def resealed(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a file of JSON so that its check agrees."""
    body = unsealed(path.read_bytes())
    change(body)
    path.write_bytes(sealed(body))
