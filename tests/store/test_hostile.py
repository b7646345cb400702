"""Stores made to do harm: links and names that lead out, numbers that are too large, rubbish instead of JSON."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tests.store.synthetic as made_up
from polykern.errors import CorruptError, UsageError
from polykern.store import Manifest, Record, Store, verify
from polykern.store.sealed import sealed, unsealed
from polykern.store.shard import read_head
from tests.store.damage import named, require_refused, resealed

SLOW = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


# --- no way out ------------------------------------------------------------------------------------


def test_links_that_lead_out(store: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (store / "shards/000001.safetensors").rename(outside)
    (store / "shards/000001.safetensors").symlink_to(outside)
    assert "leads out" in str(verify(store)[0])
    require_refused(store, "shards/000001.safetensors")
    (store / "shards").rename(tmp_path / "elsewhere")
    (store / "shards").symlink_to(tmp_path / "elsewhere")
    assert (problems := verify(store))
    assert all("leads out" in str(p) for p in problems)


def test_links_inside_are_followed(store: Path, tmp_path: Path) -> None:
    (store / "shards/000001.safetensors").rename(store / "big")
    (store / "shards/000001.safetensors").symlink_to(Path("..") / "big")
    (tmp_path / "link").symlink_to(store)
    assert verify(tmp_path / "link") == []
    made_up.require_rows(Store.open(tmp_path / "link").rows(), 3)


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "shards/../../x.safetensors", "shards/000000.json", "", 7])
def test_a_record_cannot_name_other_files(store: Path, name: Any) -> None:
    resealed(store / "shards/000001.json", lambda body: body["files"][0].update(name=name))
    assert "does not name the files" in str(verify(store)[0])
    assert named(store) == {"shards/000001.json"}


HUGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "rows": lambda b: b.update(rows=1 << 60),
    "no rows": lambda b: b.update(rows=0),
    "negative": lambda b: b.update(row0=-1),
    "true": lambda b: b.update(rows=True),
    "a float": lambda b: b.update(rows=6.0),
    "bytes": lambda b: b["files"][0].update(bytes=1 << 62),
    "digest": lambda b: b["files"][0].update(xxh3_128="../../../../../../etc/passwd00000"),
    "no files": lambda b: b.update(files=[]),
    "files": lambda b: b.update(files={"name": 1}),
    "more rows": lambda b: b.update(rows=7),
}


@pytest.mark.parametrize("what", HUGE)
def test_numbers_that_no_record_has(store: Path, what: str) -> None:
    resealed(store / "shards/000001.json", HUGE[what])
    assert any("000001" in p.file for p in verify(store))
    with pytest.raises(CorruptError):
        Store.open(store)


LAYOUTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "bits": lambda b: b["layout"].update(bits=1 << 40),
    "units": lambda b: b["layout"]["fields"][0].update(shape=[1 << 31, 1 << 31], bits=1 << 62),
    "no fields": lambda b: b["layout"].update(fields=[], bits=0),
    "offset": lambda b: b["layout"]["fields"][1].update(offset=39),
    "thresholds": lambda b: b["layout"]["fields"][1].update(thresholds=["0"]),
    "columns": lambda b: b.update(columns=["doc", "pos", "../x"]),
    "no columns": lambda b: b.update(columns="doc"),
    "dtype": lambda b: b["activations"]["blocks.0.mlp"].update(dtype="F8"),
    "shape": lambda b: b["activations"]["blocks.0.mlp"].update(shape=[1 << 32] * 8),
    "hash": lambda b: b["config"].update(seed=1),
    "complete": lambda b: b.update(complete=1),
    "rows": lambda b: b.update(rows=19),
    "shards": lambda b: b.update(shards=1_000_001),
    "versions": lambda b: b.update(versions={"torch": 2}),
    "infinity": lambda b: b.update(rows=1e400),
}


@pytest.mark.parametrize("what", LAYOUTS)
def test_numbers_that_no_manifest_has(store: Path, what: str) -> None:
    if what == "infinity":
        text = (store / "manifest.json").read_text()
        (store / "manifest.json").write_text(text.replace('"rows": 18', '"rows": 1e400'))
    else:
        resealed(store / "manifest.json", LAYOUTS[what])
    assert named(store) == {"manifest.json"}
    require_refused(store, "manifest.json")


def test_files_that_are_too_large_are_not_read(store: Path) -> None:
    os.truncate(store / "shards/000000.json", 1 << 40)  # sparse
    assert "larger than" in str(verify(store)[0])
    os.truncate(store / "manifest.json", 1 << 40)
    assert "larger than" in str(verify(store)[0])


def test_another_schema_says_which_is_read(store: Path) -> None:
    resealed(store / "manifest.json", lambda body: body.update(schema="polykern-codes/2"))
    with pytest.raises(CorruptError, match="'polykern-codes/2', this version of polykern reads 'polykern-codes/1'"):
        Store.open(store)


def test_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(CorruptError, match="not there"):
        Store.open(tmp_path / "nothing")
    with pytest.raises(CorruptError, match=r"manifest\.json: not there"):
        Store.open(tmp_path)
    with pytest.raises(UsageError, match="fast, full"):
        Store.open(tmp_path, verify="some")


# --- rubbish ---------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def changed(draw: st.DrawFn, whole: Any) -> Any:
    """A JSON value with one of its parts replaced by another, left out or doubled."""
    if isinstance(whole, dict) and whole and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(sorted(whole)))
        if not draw(st.integers(0, 9)):
            return {k: v for k, v in whole.items() if k != key}
        return {**whole, key: draw(changed(whole[key]))}
    if isinstance(whole, list) and whole and draw(st.integers(0, 9)):
        k = draw(st.integers(0, len(whole) - 1))
        return [*whole[:k], draw(changed(whole[k])), *whole[k + draw(st.integers(0, 1)) :]]
    return draw(JSON)


@SLOW
@given(st.data())
def test_any_manifest_or_record_is_read_or_refused(pristine: Path, data: st.DataObject) -> None:
    """With the right check, so that everything behind it is reached; only ValueError gets out."""
    for file in ("manifest.json", "shards/000001.json"):
        body = data.draw(changed(unsealed((pristine / file).read_bytes())))
        try:
            raw = sealed(body)
        except (TypeError, ValueError):
            raw = json.dumps(body).encode()
        try:
            if file == "manifest.json":
                Manifest.decoded(raw)
            else:
                Record.decoded(raw, 1, True)
        except ValueError:
            pass


@SLOW
@given(st.data())
def test_any_header_is_read_or_refused(
    pristine: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = (pristine / "shards/000001.safetensors").read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header, rest = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    kind = data.draw(st.sampled_from(["json", "bytes", "length", "all"]))
    if kind == "json":
        text = json.dumps(data.draw(changed(header))).encode().ljust(length)
        raw = len(text).to_bytes(8, "little") + text + rest
    elif kind == "bytes":
        k = data.draw(st.integers(0, length))
        raw = whole[:k] + data.draw(st.binary(max_size=9)) + whole[k + data.draw(st.integers(0, 9)) :]
    elif kind == "length":
        raw = data.draw(st.integers(0, 2**64 - 1)).to_bytes(8, "little") + whole[8:]
    else:
        raw = data.draw(st.binary(max_size=99))
    path = tmp_path_factory.mktemp("header") / "x.safetensors"
    path.write_bytes(raw)
    try:
        tensors, _ = read_head(path)
    except ValueError:
        return
    assert all(t.offset <= len(raw) for t in tensors.values())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"a":NaN}',
        b'{"a":1,"a":1}',
        b'{"a":' + b"9" * 5000 + b"}",
    ],
)
def test_json_that_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"no JSON|nested|twice|limit|digits"):
        unsealed(raw)
