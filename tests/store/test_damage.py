"""Damaged stores: every file that is not what it should be is named, and nothing of it is read."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tests.store.synthetic as made_up
from polykern.errors import CorruptError
from polykern.store import Record, Store, Writer, verify
from polykern.store.sealed import digest
from tests.store.damage import named, require_refused, resealed

FILES = [
    "manifest.json",
    *(f"shards/00000{k}.{kind}" for k in range(3) for kind in ("safetensors", "json")),
    *(f"items/00000{k}.safetensors" for k in range(3)),
]
SLOW = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


# --- each file ------------------------------------------------------------------------------------


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 2)  # the last brace and the end of its line


def halved(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def extended(path: Path) -> None:
    with path.open("ab") as f:
        f.write(b"\0")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def lost(path: Path) -> None:
    path.unlink()


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


DAMAGES = [truncated, halved, emptied, extended, a_folder, a_pipe, lost, zeroed]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_named(store: Path, file: str, damage: Callable[[Path], None]) -> None:
    damage(store / file)
    if file == "shards/000002.json" and damage is lost:
        assert named(store) == {file}  # the manifest says that there are three
    assert file in named(store)
    assert file in named(store, "fast")
    if (store / "manifest.json").exists():
        require_refused(store, file)


@SLOW
@given(st.sampled_from(FILES), st.data())
def test_a_flipped_bit_is_named(
    pristine: Path, tmp_path_factory: pytest.TempPathFactory, file: str, data: Any
) -> None:
    store = shutil.copytree(pristine, tmp_path_factory.mktemp("flip") / "a.codes")
    before = bytearray((store / file).read_bytes())
    position = data.draw(st.integers(0, len(before) - 1) | st.integers(0, 200))
    after = bytes(b ^ (1 << data.draw(st.integers(0, 7))) if k == position else b for k, b in enumerate(before))
    (store / file).write_bytes(after)
    if file.endswith(".json") and same_json(bytes(before), after):
        return
    assert named(store) == {file} or (file == "manifest.json" and file in named(store))


def same_json(a: bytes, b: bytes) -> bool:
    """Whether the change is one of spelling alone: a blank, the case of a digit behind \\u."""
    try:
        return bool(json.loads(a) == json.loads(b))
    except ValueError:
        return False


# --- files that are good by themselves ------------------------------------------------------------------


def swap(a: Path, b: Path) -> None:
    between = a.with_name("between")
    a.rename(between)
    b.rename(a)
    between.rename(b)


@pytest.mark.parametrize("pattern", ["shards/{}.safetensors", "shards/{}.json", "items/{}.safetensors"])
def test_files_that_changed_places(tmp_path: Path, pattern: str) -> None:
    path = tmp_path / "a.codes"
    with Writer.open(path, made_up.manifest()) as writer:
        for doc in (0, 1, 2):  # of one size each
            one: dict[str, Any] = {**made_up.shard(0), "source": {"next": doc}}
            one["columns"] = one["columns"] | {"doc": one["columns"]["doc"] + doc}
            writer.write(**one)
        writer.finish()
    first, last = (pattern.format(f"00000{k}") for k in (0, 2))
    if pattern.endswith("safetensors"):
        assert (path / first).stat().st_size == (path / last).stat().st_size
    swap(path / first, path / last)
    assert named(path, "fast") == {first, last}
    with pytest.raises(CorruptError, match=pattern.format("000000").replace(".", r"\.")):
        Store.open(path)


def test_a_whole_shard_that_is_missing_in_the_middle(store: Path) -> None:
    for file in FILES:
        if "000001" in file:
            (store / file).unlink()
    assert named(store) == {"shards/000001.json"}
    require_refused(store, "shards/000001.json")


def test_the_last_shard_of_a_complete_store(store: Path) -> None:
    for file in FILES:
        if "000002" in file:
            (store / file).unlink()
    assert [str(p) for p in verify(store)] == [
        "shards/000002.json: not there, though the store is said to be complete"
    ]


def test_a_shard_behind_the_last(store: Path) -> None:
    record = Record(3, 18, 1, (), Store.open(store).config_hash)
    (store / "shards/000003.json").write_bytes(record.encoded())
    assert named(store) == {"shards/000003.json"}


def test_a_manifest_of_another_store(store: Path, tmp_path: Path) -> None:
    with Writer.open(tmp_path / "b.codes", made_up.manifest(config={"model": "another"})) as writer:
        for k in range(3):
            writer.write(**made_up.shard(k))
        writer.finish()
    shutil.copy(tmp_path / "b.codes/manifest.json", store)
    problems = verify(store)
    assert {p.file for p in problems} == {f"shards/00000{k}.json" for k in range(3)}
    assert all("another config" in p.what for p in problems)
    with pytest.raises(CorruptError, match="another config"):
        Store.open(store)


def test_records_of_another_store(store: Path, tmp_path: Path) -> None:
    """With its data; they agree with each other."""
    with Writer.open(tmp_path / "b.codes", made_up.manifest(config={"model": "another"})) as writer:
        for k in range(3):
            writer.write(**made_up.shard(k))
    for file in ("shards/000001.json", "shards/000001.safetensors", "items/000001.safetensors"):
        shutil.copy(tmp_path / "b.codes" / file, store / file)
    assert named(store, "fast") == {"shards/000001.json"}


def test_a_record_that_was_edited(store: Path) -> None:
    file = store / "shards/000001.json"
    resealed(file, lambda body: body.update(row0=4))
    assert "begins at row 4, the shard before it ends at 5" in str(verify(store)[0])
    file.write_bytes(file.read_bytes().replace(b'"row0": 4', b'"row0": 5'))
    assert "was changed" in str(verify(store)[0])


def test_every_problem_is_told_at_once(store: Path) -> None:
    (store / "items/000000.safetensors").unlink()
    truncated(store / "shards/000001.safetensors")
    (store / "shards/000002.json").write_text("{")
    assert named(store) == {"items/000000.safetensors", "shards/000001.safetensors", "shards/000002.json"}
    with pytest.raises(CorruptError, match="2 more of its files"):
        Store.open(store)


def test_bits_behind_the_code(store: Path, tmp_path: Path) -> None:
    """A hash does not know that they must be zero."""
    file = store / "shards/000000.safetensors"
    length = int.from_bytes(file.read_bytes()[:8], "little")
    data = bytearray(file.read_bytes())
    data[8 + length + 11] |= 0x80  # bit 95, the code has 82
    file.write_bytes(data)
    resealed(store / "shards/000000.json", lambda body: body["files"][0].update(xxh3_128=digest(bytes(data))))
    assert "behind the 82 bits" in str(verify(store)[0])
    with pytest.raises(CorruptError):
        Store.open(store).rows()


def test_a_damaged_column_is_found_by_the_full_check_alone(store: Path) -> None:
    file = store / "shards/000001.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert named(store, "fast") == set()
    assert named(store) == {"shards/000001.safetensors"}
    with pytest.raises(CorruptError, match=r"shards/000001\.safetensors"):
        Store.open(store, verify="full")


def test_a_damage_that_happens_while_the_store_is_open(store: Path) -> None:
    opened = Store.open(store)
    halved(store / "shards/000001.safetensors")
    with pytest.raises(CorruptError, match=r"shards/000001\.safetensors"):
        opened.rows()
