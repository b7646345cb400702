"""A good store of the made-up corpus, and copies of it to be damaged."""

import shutil
from pathlib import Path

import pytest

import tests.store.synthetic as made_up


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pristine") / "a.codes"
    made_up.write(path)
    return path


@pytest.fixture
def store(pristine: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return shutil.copytree(pristine, tmp_path / "a.codes")
