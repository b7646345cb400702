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

    root = tmp_path_factory.mktemp("place")
    arguments.sandbox(root)
    before = os.getcwd()  # noqa: PTH109
    os.chdir(root)
    yield root
    os.chdir(before)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if ledger.ACCOUNTS and ledger.SOAK in os.environ:
        terminalreporter.section("promises")
        for line in ledger.table():
            terminalreporter.write_line(line)
