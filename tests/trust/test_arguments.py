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


@pytest.mark.parametrize(
    ("out", "code"), [("file.txt", 6), ("folder", 2), ("a.map/map.json", 6), ("new/run.json", 0)]
)
def test_a_bench_takes_the_place_of_a_bench_alone(place: Path, out: str, code: int) -> None:
    words, before = ["bench", "--from", "a.bench/run.json", "--out", out], arguments.contents(place)
    with trial(PROMISE):
        said = arguments.call(words)
        assert said.code == code
        arguments.require_clear(words, said)
        arguments.require_kept([*words, "new"], before, place)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["superposition", "--out", "new", "--features", "9" * 40], "--features is beyond 64 bits"),
        (["superposition", "--out", "new", "--seed", "9" * 12], "--seed"),
        (["projections", "--out", "new", "--start", "nothing"], "the model has no module 'nothing'"),
        (["path", "--out", "new", "--positions", "4"], "4 positions are too few"),
        (["bench", "--list", "--threads", "9" * 9], "numba does not compute with 999999999 threads"),
        (["partition", "--out", "s3://bucket/faces"], "is a URL"),
    ],
)  # fmt: skip
def test_words_that_were_taken_for_bugs(place: Path, words: list[str], message: str) -> None:
    said = arguments.call(words)
    arguments.require_clear(words, said)
    assert said.code == 2
    assert message in said.err
