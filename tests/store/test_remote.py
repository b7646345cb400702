"""Stores behind a URL: fetched shard by shard, kept under their hashes, checked on the way."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

import tests.store.synthetic as made_up
from polykern.errors import CorruptError, ResourceError, UsageError
from polykern.store import Store, verify

URL = "memory://bucket/a.codes"


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLYKERN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "shards"


@pytest.fixture
def url(pristine: Path, memory: Any, cache: Path) -> str:
    memory.put(str(pristine), "/bucket/a.codes", recursive=True)
    return URL


def fetched(cache: Path) -> int:
    return len(list(cache.rglob("*.safetensors")))


def test_rows_come_over_the_network_once(url: str, cache: Path, memory: Any) -> None:
    store = Store.open(url)
    assert (len(store), store.complete, store.path) == (18, True, URL)
    assert fetched(cache) == 0
    np.testing.assert_array_equal(store.rows([6]).columns["doc"], [1])
    assert fetched(cache) == 1
    made_up.require_rows(store.rows(activations=["blocks.0.mlp"]), 3)
    assert store.context(7, 1, 1).doc == 1
    assert fetched(cache) == 6
    for name in memory.find("/bucket/a.codes"):
        if name.endswith(".safetensors"):
            memory.pipe_file(name, bytes(memory.info(name)["size"]))
    made_up.require_rows(Store.open(url).rows(), 3)  # from the cache


def test_a_store_behind_a_url_is_verified(url: str, pristine: Path) -> None:
    assert verify(url) == []
    assert Store.open(url, verify="full").fingerprint == Store.open(pristine).fingerprint
    made_up.require_rows(Store.open(f"file://{pristine}").rows(), 3)


@pytest.mark.parametrize("part", ["shards", "items"])
def test_damage_far_away_is_named_and_not_kept(url: str, cache: Path, memory: Any, part: str) -> None:
    name = f"/bucket/a.codes/{part}/000001.safetensors"
    data = bytearray(memory.cat_file(name))
    data[-1] ^= 1
    memory.pipe_file(name, bytes(data))
    assert [p.file for p in verify(url)] == [f"{part}/000001.safetensors"]
    store = Store.open(url)
    with pytest.raises(CorruptError, match=f"{part}/000001"):
        _ = store.rows() if part == "shards" else store.context(6)
    for wrong in (data + b"more", data[:-1]):
        store = Store.open(url)
        memory.pipe_file(name, bytes(wrong))
        with pytest.raises(CorruptError, match="another size"):
            _ = store.rows() if part == "shards" else store.context(6)
        memory.pipe_file(name, bytes(data))
    memory.pipe_file(name, bytes(data[:-1]))
    with pytest.raises(CorruptError, match=f"{part}/000001"):
        Store.open(url)
    memory.rm_file(name)
    assert [str(p) for p in verify(url, level="fast")] == [
        f"{part}/000001.safetensors: not there, though its record is"
    ]
    assert fetched(cache) == 5


def test_a_damaged_cache_is_noticed(url: str, cache: Path) -> None:
    made_up.require_rows(Store.open(url).rows(), 3)
    for path in cache.rglob("*.safetensors"):
        path.write_bytes(b"\0" * path.stat().st_size)
    made_up.require_rows(Store.open(url).rows(), 3)  # fetched again
    assert verify(url) == []


def test_nothing_there(memory: Any, cache: Path) -> None:
    with pytest.raises(CorruptError, match=r"manifest\.json: not there"):
        Store.open("memory://bucket/none.codes")
    with pytest.raises(UsageError, match="cannot be opened"):
        Store.open("nonsense://bucket/none.codes")


def test_a_network_that_fails(url: str, memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any, **kwargs: Any) -> bytes:
        raise RuntimeError("403")

    store = Store.open(url)
    monkeypatch.setattr(type(memory), "open", fails)
    with pytest.raises(ResourceError, match="403"):
        store.rows()
    monkeypatch.setattr(type(memory), "cat_file", fails)
    monkeypatch.setattr(type(memory), "cat", fails)
    with pytest.raises(ResourceError, match="cannot be reached"):
        Store.open(url)
