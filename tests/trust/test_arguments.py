"""Whatever stands on a command line: a documented exit code, one clear line, and nothing of the user's lost."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.trust import arguments
from tests.trust.ledger import SCALE, scaled, trial

PROMISE = "R11 hostile arguments: refused"
ALL = settings(
    max_examples=scaled(2), deadline=None, derandomize=SCALE == 1, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


@pytest.mark.parametrize("name", arguments.COMMANDS)
@ALL
@given(data=st.data())
def test_any_words_are_carried_out_or_refused(place: Path, name: str, data: st.DataObject) -> None:
    words = data.draw(arguments.lines(name))
    before = arguments.contents(place)
    with trial(PROMISE):
        said = arguments.call(words)
        arguments.require_clear(words, said)
        arguments.require_kept(words, before, place)
