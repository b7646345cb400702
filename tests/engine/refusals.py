"""Commands that are refused, and what they say then."""

import pytest

from polykern.cli.app import run


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command that cannot be says on stderr: last of all one error, its reason and fix indented."""
    assert run(words) == 2
    said = capsys.readouterr().err
    errors = [line.startswith("error: ") for line in said.splitlines() if not line.startswith("  ")]
    assert errors[-1:] == [True], said
    assert sum(errors) == 1, said
    return said
