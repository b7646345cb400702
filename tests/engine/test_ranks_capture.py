"""Captures, maps, spectra and embeddings of several processes: the bytes of one, whatever died on the way."""

import io
import json
from pathlib import Path

import pytest

from polykern.capturing import capture
from polykern.errors import UsageError
from polykern.launch import apart
from polykern.store import Writer
from polykern.store.lease import Lease
from tests.engine.languages import documents, files, small
from tests.engine.ranked import batches, captured, everything
from tests.launched import Ended, together

SCRIPT = "tests.engine.ranked"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return documents(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def alone(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes."""
    out = tmp_path_factory.mktemp("alone")
    everything(out, corpus)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of everything; of map.json all but the time that was spent, and its seal."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    whole = json.loads(found.pop("map/map.json"))
    del whole["timings"], whole["check"]
    return found | {"map/map.json": json.dumps(whole).encode()}


def require_well(ended: list[Ended]) -> None:
    assert [e.code for e in ended] == [0] * len(ended), "\n".join(e.err for e in ended)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_any_number_of_ranks_gives_the_same_bytes(count: int, alone: Path, corpus: Path, tmp_path: Path) -> None:
    require_well(together(count, ["-m", SCRIPT, "all", str(tmp_path), str(corpus)], {}))
    assert contents(tmp_path) == contents(alone)


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_the_run_and_the_next_one_finishes_it(
    alone: Path, corpus: Path, tmp_path: Path
) -> None:
    words = ["-m", SCRIPT, "batches", str(tmp_path), str(corpus)]
    first, second = together(2, words, {"FATAL": "1 1"})
    assert second.code == -9
    assert first.code == 1
    assert "rank 0 of 2 lost the others" in first.err
    torn, whole = tmp_path / "batches.codes", alone / "batches.codes"
    assert json.loads((torn / "manifest.json").read_bytes())["complete"] is False
    assert len(list((torn / "shards").glob("*.json"))) >= 6  # its own five, and one of the other
    batches(tmp_path, corpus)  # with another number of processes
    assert {p.name for p in torn.rglob("*")} == {p.name for p in whole.rglob("*")}
    assert files(torn) == files(whole)


# --- the tasks of an array, which do not meet -----------------------------------------------------


def task(number: int, monkeypatch: pytest.MonkeyPatch, count: int = 3) -> None:
    """Be a task of a Slurm array whose numbers begin at 4 and go in steps of 2."""
    place = {"ID": 4 + 2 * number, "COUNT": count, "MIN": 4, "STEP": 2}
    for name, value in place.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))


def test_tasks_in_any_order_make_one_store(
    alone: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each its own shards, as long as the others hold theirs."""
    real, made = Writer.claim, dict[int, list[int]]()
    for number in (2, 0, 1):
        task(number, monkeypatch)
        own = made.setdefault(number, [])

        def claim(self: Writer, shard: int, number: int = number, own: list[int] = own) -> bool:
            found = shard % 3 == number and real(self, shard)
            own += [shard] if found else []
            return found

        monkeypatch.setattr(Writer, "claim", claim)
        captured(tmp_path, corpus)
        complete = json.loads((tmp_path / "text.codes/manifest.json").read_bytes())["complete"]
        assert complete is (number == 1)
    shards = len(list((tmp_path / "text.codes/shards").glob("*.json")))
    assert shards > 6
    assert made == {k: list(range(k, shards, 3)) for k in (2, 0, 1)}
    assert files(tmp_path / "text.codes") == files(alone / "text.codes")


def test_the_living_do_what_the_dead_left(
    alone: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    real = Writer.write

    def write(self: Writer, *args: object, **named: object) -> object:
        if self.done:
            raise Killed
        return real(self, *args, **named)  # type: ignore[arg-type]

    task(0, monkeypatch, 2)
    monkeypatch.setattr(Writer, "write", write)
    with pytest.raises(Killed):
        captured(tmp_path, corpus)
    monkeypatch.setattr(Writer, "write", real)
    assert len(list((tmp_path / "text.codes/shards").glob("*.json"))) == 1
    task(1, monkeypatch, 2)
    captured(tmp_path, corpus)
    assert files(tmp_path / "text.codes") == files(alone / "text.codes")


def test_a_shard_that_another_holds_is_left_to_it(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task(0, monkeypatch, 2)
    captured(tmp_path, corpus)
    whole = files(tmp_path / "text.codes")
    manifest = tmp_path / "text.codes/manifest.json"
    begun = json.loads(manifest.read_bytes())
    store = tmp_path / "again.codes"

    def again() -> bool:
        """Whether the store is complete after one more task."""
        made = capture(small(), corpus, store, length=16, shard_bytes=4000, batch=48, activations=["fp16"])
        assert made.manifest.config == begun["config"]
        return made.manifest.complete

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "claim", lambda self, shard: False)
        assert not again()  # the store is begun, and nothing is made
    held = Lease(store / "shards", ".000003.claim")
    assert not again()
    assert not (store / "shards/000003.json").exists()
    assert (store / "shards/000004.json").exists()
    held.release()
    assert again()
    assert files(store) == whole


def test_tasks_do_not_overwrite(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task(1, monkeypatch)
    with pytest.raises(UsageError, match="cannot overwrite"):
        capture(small(), corpus, tmp_path / "s", length=16, overwrite=True)


def test_standard_input_is_read_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task(1, monkeypatch)
    with pytest.raises(UsageError, match="read by one process"):
        capture(small(), "-", tmp_path / "s", stdin=io.BytesIO(b"some text"), length=16)


def test_the_place_of_a_task() -> None:
    array = {"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_MIN": "5", "SLURM_ARRAY_TASK_STEP": "2"}
    assert apart(array | {"SLURM_ARRAY_TASK_COUNT": "4"}) == (2, 4)
    assert apart(array | {"SLURM_ARRAY_TASK_COUNT": "4", "MASTER_ADDR": "n1"}) == (0, 1)
    assert apart({}) == (0, 1)
    with pytest.raises(UsageError, match="task 2 of 2"):
        apart(array | {"SLURM_ARRAY_TASK_COUNT": "2"})
