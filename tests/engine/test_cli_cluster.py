"""`polykern cluster` on the command line: results, plans, what goes wrong and with which exit code."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polykern.cli.app import run
from polykern.clustering.result import Clusters
from tests.engine.stores import planted, written

ROWS = 300


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("cli") / "some.codes"
    written(folder, planted(ROWS)[0], activations=("body.0",))
    return str(folder)


@pytest.fixture
def asked(path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """asked(words...) clusters the store into the folder `out`; exit code, stdout, stderr."""

    def ask(*words: str, out: bool = True) -> tuple[int, str, str]:
        where = ("--out", str(tmp_path / "out")) if out else ()
        code = run(["cluster", path, "--device", "cpu", *where, *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return ask


def test_the_result_is_said_and_written(asked: Callable[..., Any], tmp_path: Path) -> None:
    code, out, err = asked("--min-cluster-size", "12", "--min-samples", "4")
    assert code == 0
    found = Clusters.open(tmp_path / "out", verify=True)
    assert f"{found.count} of {ROWS} rows" in out
    assert f"polykern report {tmp_path / 'out'}" in out
    assert "error" not in err


def test_one_object_in_json(asked: Callable[..., Any], tmp_path: Path) -> None:
    code, out, _ = asked("--min-cluster-size", "12,30", "--min-samples", "4", "--json")
    said = json.loads(out)
    assert (code, said["schema"]) == (0, "polykern-cluster-result/1")
    for entry in said["runs"]:
        assert Clusters.open(entry["folder"]).about == entry["about"]
        assert 'min_cluster_size = "12,30"  # command line' in Path(entry["folder"], "settings.toml").read_text()
    assert [Path(e["folder"]).name for e in said["runs"]] == ["size-12-samples-4", "size-30-samples-4"]


def test_a_dry_run_writes_nothing(asked: Callable[..., Any], tmp_path: Path) -> None:
    code, out, _ = asked("--dry-run", "--json")
    plan = json.loads(out)
    assert (code, plan["schema"], plan["rows"], plan["width"]) == (0, "polykern-cluster-plan/1", ROWS, 160)
    assert plan["seconds"] > 0
    assert plan["memory"] > plan["codes"] > 0
    assert not (tmp_path / "out").exists()


def test_a_dry_run_tells_a_rank_its_part(asked: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    alone = json.loads(asked("--dry-run", "--json")[1])
    assert (alone["ranks"], alone["share"]) == (1, ROWS)
    for name, value in {"RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "localhost", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    plan = json.loads(asked("--dry-run", "--json")[1])
    assert (plan["ranks"], plan["share"]) == (2, -(-ROWS // 2))
    assert plan["lists"] > alone["lists"]


def test_the_environment_is_heard(
    asked: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("POLYKERN_MIN_CLUSTER_SIZE", "17")
    assert asked("--min-samples", "3")[0] == 0
    assert Clusters.open(tmp_path / "out").about["parameters"]["min_cluster_size"] == 17


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--min-cluster-size", "ten"), 2, "--min-cluster-size has no 'ten'"),
        (("--min-cluster-size", str(ROWS)), 2, f"min_cluster_size {ROWS} of {ROWS} rows"),
        (("--min-samples", "0"), 2, "min_samples must be at least 1"),
        (("--min-samples", "-3"), 2, "--min-samples has no '-3'"),
        (("--metric", "manhattan"), 2, "no metric 'manhattan'"),
        (("--metric", "euclidean"), 2, "of activations, not of codes"),
        (("--select", "nowhere"), 2, "no nonlinearity is called 'nowhere'"),
        (("--backend", "opencl"), 2, "--backend has no 'opencl'"),
        (("--device", "cuda:99"), 4, "there is no device cuda:99"),
        (("--epsilon", "nan"), 2, "--epsilon must be finite"),
        (("--memory-budget", "1MiB"), 4, "a memory budget of 1 MiB is too small"),
    ],
)
def test_bad_words_are_one_clear_line(
    asked: Callable[..., Any], words: tuple[str, ...], code: int, says: str
) -> None:
    got, out, err = asked(*words)
    assert (got, out) == (code, "")
    assert says in err
    assert "Traceback" not in err


def test_no_folder_for_the_result(asked: Callable[..., Any]) -> None:
    code, _, err = asked(out=False)
    assert code == 2
    assert "--out DIR" in err


def test_another_run_is_refused(asked: Callable[..., Any]) -> None:
    assert asked("--min-cluster-size", "12")[0] == 0
    code, _, err = asked("--min-cluster-size", "13")
    assert code == 6
    assert "min_cluster_size: [12] there, [13] here" in err
    assert asked("--min-cluster-size", "13", "--overwrite")[0] == 0


def test_a_store_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cluster", str(tmp_path / "nothing.codes"), "--out", str(tmp_path / "out")]) == 3
    assert "manifest.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_damaged_store_is_named(path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "hurt.codes"
    written(folder, planted(60)[0])
    shard = folder / "shards" / "000001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-8])
    assert run(["cluster", str(folder), "--out", str(tmp_path / "out")]) == 3
    assert "000001.safetensors" in capsys.readouterr().err
