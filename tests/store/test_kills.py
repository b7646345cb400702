"""Writers that are killed: no shard that was acknowledged is lost, none that is torn is seen, and a resumed store
has the same bytes as one that was written in one go."""

import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tests.store.synthetic as made_up
from polykern.store import Store, verify
from tests.driven import driven

Kill = Callable[..., dict[str, Any]]
STORES, KILLS_OF_A_STORE = 20, 4


@pytest.fixture(scope="module")
def kill() -> Iterator[Kill]:
    """kill(path, ...) -> what came of a writer that was killed there (tests/store/killed.py)."""
    with driven("tests.store.killed") as ask:
        yield lambda path, **how: ask(path=str(path), **how)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a store that nobody killed."""
    path = tmp_path_factory.mktemp("whole") / "a.codes"
    made_up.write(path)
    return made_up.contents(path)


def require_prefix(path: Path, acknowledged: int) -> int:
    """Fail unless what is committed is good and holds what was acknowledged; how many shards are committed."""
    if not (path / "manifest.json").exists():
        assert acknowledged == 0
        return 0
    assert verify(path) == []
    store = Store.open(path, verify="full")
    assert acknowledged <= len(store.records) <= acknowledged + 1
    made_up.require_rows(store.rows(activations=["blocks.0.mlp"]), len(store.records))
    return len(store.records)


def test_the_writer_lives_when_it_is_let(kill: Kill, folder: Path, whole: dict[str, bytes]) -> None:
    came = kill(folder / "a.codes")
    assert (came["acknowledged"], came["ended"]) == (3, 0)
    assert made_up.contents(folder / "a.codes") == whole


@pytest.mark.slow
@pytest.mark.parametrize("torn", [False, True], ids=["before", "torn"])
def test_killed_at_every_call(kill: Kill, folder: Path, whole: dict[str, bytes], torn: bool) -> None:
    calls = kill(folder / "let")["calls"]
    assert calls > 40
    committed = []
    for call in range(1, calls + 1):
        path = folder / f"{call}.codes"
        came = kill(path, call=call, torn=torn)
        assert (came["ended"], came["calls"]) == (-9, call)
        committed.append(require_prefix(path, came["acknowledged"]))
        made_up.write(path)
        assert made_up.contents(path) == whole
    assert committed == sorted(committed)
    assert set(committed) == {0, 1, 2, 3}


@pytest.mark.slow
def test_killed_at_random_times(kill: Kill, folder: Path, whole: dict[str, bytes]) -> None:
    """Again and again while it resumes; wherever a timer finds it, inside a call of the system as well."""
    rng = random.Random(0)
    for number in range(STORES):
        path, held = folder / f"{number}.codes", 0
        for _ in range(KILLS_OF_A_STORE):
            came = kill(path, microseconds=int(rng.uniform(300, 20_000)))
            assert came["ended"] in (0, -signal.SIGALRM)
            held = require_prefix(path, held + came["acknowledged"])
        assert kill(path)["ended"] == 0
        assert made_up.contents(path) == whole


@pytest.mark.slow
@pytest.mark.parametrize("torn", [False, True], ids=["before", "torn"])
def test_killed_while_it_overwrites(kill: Kill, folder: Path, whole: dict[str, bytes], torn: bool) -> None:
    """Whenever it dies: the old store, nothing, or the beginning of the new one; the next run finishes it."""
    path = folder / "let"
    made_up.write(path, 2)
    calls = kill(path, overwrite=True)["calls"]
    for call in range(1, calls + 1, 2):
        path = folder / f"{call}.codes"
        made_up.write(path, 2)
        came = kill(path, overwrite=True, call=call, torn=torn)
        assert (came["ended"], came["calls"]) == (-9, call)
        if (path / "manifest.json").exists():
            assert verify(path) == []
            assert len(Store.open(path).records) >= came["acknowledged"]
        made_up.write(path, overwrite=(path / "manifest.json").exists())
        assert made_up.contents(path) == whole
