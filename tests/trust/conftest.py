"""A folder in memory, nothing but this machine, and the table of the soak."""

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.trust import ledger


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where the system has one: what survives a kill is the same, a sync costs nothing."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as path:
        yield Path(path)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
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


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if ledger.ACCOUNTS and ledger.SOAK in os.environ:
        terminalreporter.section("promises")
        for line in ledger.table():
            terminalreporter.write_line(line)
