"""A store of another run is never gone on with, and what is no store is never touched."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tests.store.synthetic as made_up
from polykern.errors import CorruptError, MismatchError, UsageError
from polykern.layout import Field, Layout
from polykern.store import Activation, Store, Writer

SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
CONFIGS = st.dictionaries(st.text(), LEAVES | st.lists(LEAVES) | st.dictionaries(st.text(), LEAVES), min_size=1)


def require_refused(path: Path, manifest: Any, *fields: str) -> None:
    """Fail unless the run is refused with the names of the fields, and the store is left as it is."""
    before = made_up.contents(path)
    with pytest.raises(MismatchError) as told:
        Writer.open(path, manifest)
    assert told.value.exit_code == 6
    assert made_up.contents(path) == before
    for field in fields:
        assert field in told.value.what


@SLOW
@given(CONFIGS, st.data())
def test_any_change_of_the_config_is_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("drift") / "a.codes"
    Writer.open(path, made_up.manifest(config=config)).close()
    key = data.draw(st.sampled_from(sorted(config)))
    changed = copy.deepcopy(config)
    if data.draw(st.booleans()):
        del changed[key]
    else:
        changed[key] = "another value of it"
    require_refused(path, made_up.manifest(config=changed), f"config.{key}")
    require_refused(path, made_up.manifest(config={**config, "one\0more": 1}), "config.one\0more")
    with Writer.open(path, made_up.manifest(config=copy.deepcopy(config))) as writer:
        assert writer.next == 0


OTHERS: dict[str, dict[str, Any]] = {
    "layout": {"layout": Layout.of([*made_up.LAYOUT.fields, Field("more", 0, "relu", (1,), (0.0,), 0)])},
    "columns": {"columns": ("pos", "doc", "token")},
    "activations": {"activations": {"blocks.0.mlp": Activation(torch.float16, (40,))}},
    "items": {"items": None},
    "config.seed": {"config": {**made_up.CONFIG, "seed": False}},
    "config.corpus.rows": {"config": {**made_up.CONFIG, "corpus": {"name": "none", "rows": 7.0}}},
}


@pytest.mark.parametrize("field", OTHERS)
@pytest.mark.parametrize("finish", [False, True])
def test_another_run_is_refused_by_name(tmp_path: Path, field: str, finish: bool) -> None:
    made_up.write(tmp_path / "a.codes", 2, finish=finish)
    require_refused(tmp_path / "a.codes", made_up.manifest(**OTHERS[field]), field)


def test_every_field_that_differs_is_named(tmp_path: Path) -> None:
    made_up.write(tmp_path / "a.codes", 1, finish=False)
    changes = {k: v for other in OTHERS.values() for k, v in other.items() if k != "items"}
    require_refused(tmp_path / "a.codes", made_up.manifest(**changes), "layout", "columns", "activations", "config")


def test_what_is_said_to_people_may_change(tmp_path: Path) -> None:
    """The store keeps what it was begun with, so that its bytes stay the same."""
    made_up.write(tmp_path / "a.codes", 1, finish=False)
    other = made_up.manifest(about={"note": "another"}, versions={"torch": "9"})
    with Writer.open(tmp_path / "a.codes", other) as writer:
        assert writer.next == 1
        writer.finish({"seconds": 3})
    store = Store.open(tmp_path / "a.codes")
    assert store.about == {"note": "an example; the rows mean nothing", "seconds": 3}
    assert store.manifest.versions == made_up.VERSIONS


def test_overwrite_removes_the_store_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.codes"
    made_up.write(path, 5)
    for name in ("notes.txt", "shards/notes.json", "items/0.safetensors"):
        (path / name).write_text("mine")
    other = made_up.manifest(config={"model": "another"})
    with Writer.open(path, other, overwrite=True) as writer:
        assert (writer.next, writer.done, writer.resume) == (0, (), None)
    theirs = ["items/0.safetensors", "notes.txt", "shards/notes.json"]
    assert sorted(made_up.contents(path)) == sorted([*theirs, "manifest.json"])
    assert Store.open(path, verify="full").config == {"model": "another"}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("there", ["thesis.tex", "manifest.json", "shards/000000.safetensors"])
def test_a_folder_that_is_no_store_is_not_touched(tmp_path: Path, there: str, overwrite: bool) -> None:
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).write_text('{"schema": "another/1"}')
    unread = there == "manifest.json" and not overwrite
    with pytest.raises(CorruptError if unread else MismatchError, match="schema" if unread else "no store"):
        Writer.open(tmp_path, made_up.manifest(), overwrite=overwrite)
    assert made_up.contents(tmp_path) == {there: b'{"schema": "another/1"}'}


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a.codes").write_text("")
    with pytest.raises(UsageError, match="not a folder"):
        Writer.open(tmp_path / "a.codes", made_up.manifest())


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.codes"
    made_up.write(path, 2, finish=False)
    before = made_up.contents(path)
    beside = f".000002.safetensors.{'0' * 16}.tmp"
    for name in (
        beside,
        f"shards/{beside}",
        f"items/{beside}",
        "shards/000002.safetensors",
        "items/000007.safetensors",
    ):
        (path / name).write_bytes(b"torn")
    made_up.require_rows(Store.open(path, verify="full").rows(), 2)
    Writer.open(path, made_up.manifest()).close()
    assert made_up.contents(path) == before
