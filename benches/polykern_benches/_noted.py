"""A plugin of pytest for tests on a device: each is noted when it had its turn, and a lost device ends the run.

    POLYKERN_NOTED=FILE python -m pytest -p polykern_benches._noted

Run again with the same file, only those run that had no turn.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from polykern_benches import _memory

NOTED = "POLYKERN_NOTED"


def noted() -> set[str]:
    """The tests that had their turn."""
    path = Path(os.environ[NOTED])
    return set(path.read_text(encoding="utf-8").splitlines()) if path.exists() else set()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is noted."""
    before = noted()
    gone = [item for item in items if item.nodeid in before]
    if gone:
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if item.nodeid not in before]


def pytest_runtest_logfinish(nodeid: str) -> None:
    """Note a test."""
    with Path(os.environ[NOTED]).open("a", encoding="utf-8") as lines:
        lines.write(f"{nodeid}\n")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Stop behind a test that lost the device: in this process all others would fail for it."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.failed and torch.cuda.is_available() and _memory.lost("cuda"):
        item.session.shouldstop = _memory.LOST
    return report  # type: ignore[return-value]
