"""A folder in memory, nothing but this machine, and the table of the soak."""

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.trust import ledger


@contextmanager
def in_memory(beside: Path) -> Iterator[Path]:
    """A folder in memory where the system has one: what survives a kill is the same, a sync costs nothing."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else beside) as path:
        yield Path(path)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with in_memory(tmp_path) as path:
        yield path


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the jobs of `tests/trust/jobs.py` read."""
    from polykern.cli.app import run
    from tests.trust.jobs import prepared

    return prepared(tmp_path_factory.mktemp("jobs") / "in", run)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test of this folder may speak to anybody."""

    def refused(self: socket.socket, address: Any) -> None:
        raise AssertionError(f"a connection to {address}")

    monkeypatch.setattr(socket.socket, "connect", refused)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working directory, with what a command may be pointed at (tests/trust/arguments.py)."""
    from tests.trust import arguments

    with in_memory(tmp_path_factory.mktemp("place")) as path:
        arguments.sandbox(path)
        with chdir(path):
            yield path


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if ledger.ACCOUNTS and ledger.SOAK in os.environ:
        terminalreporter.section("promises")
        for line in ledger.table():
            terminalreporter.write_line(line)
