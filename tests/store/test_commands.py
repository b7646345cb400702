"""`polykern verify` and `polykern info`: what they say and their exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest

import tests.store.synthetic as made_up
from polykern.cli.app import run
from polykern.clustering.result import write
from polykern.store import Writer
from tests.engine.conftest import build
from tests.engine.test_clusters_folder import about, parts


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The one object on stdout."""
    whole: dict[str, Any] = json.loads(capsys.readouterr().out)
    return whole


def test_a_good_store(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", str(store)]) == 0
    assert "18 rows in 3 shards" in capsys.readouterr().out
    assert run(["verify", str(store), "--json"]) == 0
    found = said(capsys)
    del found["settings"]
    held = sum(p.stat().st_size for p in store.rglob("*.safetensors"))
    assert found == {
        "schema": "polykern-verify/1", "ok": True, "of": "polykern-codes/1", "store": str(store), "level": "full",
        "complete": True, "hashed": True, "shards": 3, "rows": 18, "bytes": held, "problems": [],
    }  # fmt: skip


def test_a_damaged_store(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = store / "shards/000001.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    assert run(["verify", str(store), "--fast"]) == 0
    capsys.readouterr()
    assert run(["verify", str(store)]) == 3
    told = capsys.readouterr()
    assert told.out.startswith("shards/000001.safetensors")
    assert "1 file not as it should be" in told.err
    assert run(["verify", str(store), "--json", "--quiet"]) == 3
    found = said(capsys)
    assert (found["ok"], [p["file"] for p in found["problems"]]) == (False, ["shards/000001.safetensors"])
    (store / "manifest.json").unlink()
    assert run(["verify", str(store)]) == 3
    assert run(["info", str(store)]) == 3
    assert run(["verify", str(store / "nothing")]) == 3


def test_a_store_that_is_being_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_up.write(tmp_path / "a.codes", 1, finish=False)
    assert run(["verify", str(tmp_path / "a.codes")]) == 0
    assert "1 shard, not complete" in capsys.readouterr().out
    assert run(["info", str(tmp_path / "a.codes")]) == 0
    assert "not complete" in capsys.readouterr().out


def test_what_a_store_holds(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", str(store)]) == 0
    out = capsys.readouterr().out
    for line in ("18 in 3 shards", "82 of 2 layers", "blocks.1.mlp#1  gelu 7 x 3, 42 bits", "doc, pos, token",
                 "blocks.0.mlp BF16 40", "config.corpus.name", "made-up", "an example"):  # fmt: skip
        assert line in out
    assert run(["info", str(store), "--json"]) == 0
    found = said(capsys)
    assert (found["schema"], found["of"], found["rows"], found["bytes"]) == (
        "polykern-info/1", "polykern-codes/1", 18, sum(p.stat().st_size for p in store.rglob("*.safetensors")),
    )  # fmt: skip
    assert found["config"] == made_up.CONFIG
    assert found["layout"]["bits"] == 82


def test_hostile_names_do_not_reach_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = made_up.manifest(about={"note": "\x1b[2Jgone", "more": "x" * 9999})
    Writer.open(tmp_path / "a.codes", manifest).close()
    assert run(["info", str(tmp_path / "a.codes")]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) < 200


def test_a_heat_map_is_told_of_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = build(tmp_path / "map")
    assert run(["info", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "37 x 37" in out
    assert "made-up net, 3 layers" in out
    assert run(["info", str(folder), "--json"]) == 0
    found = said(capsys)
    assert (found["of"], found["model"]["name"]) == ("polykern-heatmap/1", "made-up net")


def test_clusters_are_told_of_and_verified_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, about(), **parts())
    assert run(["info", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "store.path" in out
    assert "2 rows, 20.0%" in out
    assert run(["info", str(tmp_path), "--json"]) == 0
    assert said(capsys)["of"] == "polykern-clusters/1"
    assert run(["verify", str(tmp_path)]) == 0
    assert "2 clusters of 10 rows" in capsys.readouterr().out
    file = tmp_path / "points.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    assert run(["verify", str(tmp_path), "--fast"]) == 0
    assert run(["verify", str(tmp_path)]) == 3
