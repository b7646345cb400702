"""The command line: what goes to stdout and what to stderr, JSON, environment, progress, help, a light start."""

import http.client
import json
import logging
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polykern.cli import doctor
from polykern.cli.app import run
from polykern.cli.pace import Lines, Pace, spelled
from polykern.cli.values import device, size
from polykern.errors import UsageError
from polykern.maps.result import HeatMap

SMALL = ("--resolution", "24", "--engine", "float32", "--no-figures", "--no-viewer", "--device", "cpu")


@pytest.fixture
def make(nets: str, tmp_path: Path) -> Callable[..., int]:
    """make(words...) runs `heatmap` on the small network into the folder `map`."""

    def heatmap(*words: str) -> int:
        return run(["heatmap", "--model", f"{nets}:net", "--out", str(tmp_path / "map"), *SMALL, *words])

    return heatmap


def started(*words: str, **more: Any) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


# --- the start -----------------------------------------------------------------------------------

LIGHT = """
import sys
import typer
from polykern.cli.app import app, run
commands = list(typer.main.get_command(app).commands)
heavy = {"torch", "numpy", "matplotlib", "numba", "triton", "scipy", "sklearn", "transformers", "torchvision"}
for words in ["--version"], ["--help"], *([c, "--help"] for c in commands), ["heatmap", "--x"]:
    code = run(words)
    if code != (2 if "--x" in words else 0) or heavy & set(sys.modules):
        sys.exit(f"{words}: {code}, {sorted(heavy & set(sys.modules))}")
print(*commands)
"""


def test_words_about_the_program_load_no_library() -> None:
    done = started("-c", LIGHT)
    assert done.returncode == 0, done.stderr
    assert {"heatmap", "bench", "view"} <= set(done.stdout.splitlines()[-1].split())


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    import polykern

    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"polykern {polykern.__version__}\n"


def test_the_names_of_the_package_load_no_heavy_library() -> None:
    code = """
import sys, polykern
for name in polykern.__all__:
    if name != "HDBSCAN":  # an estimator of scikit-learn
        getattr(polykern, name)
heavy = {"matplotlib", "torchvision", "transformers", "triton", "sklearn", "scipy", "typer", "rich"}
sys.exit(" ".join(sorted(heavy & set(sys.modules))) or 0)
"""
    done = started("-c", code)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_name_that_is_not_there() -> None:
    import polykern

    with pytest.raises(AttributeError, match="no attribute 'heatmaps'"):
        _ = polykern.heatmaps
    assert set(polykern.__all__) <= set(dir(polykern))


# --- heatmap -------------------------------------------------------------------------------------


def test_a_map_and_what_is_said_about_it(
    make: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make() == 0
    said = capsys.readouterr()
    result = HeatMap.open(tmp_path / "map")
    rows = dict(line.split("  ", 1) for line in said.out.splitlines())
    assert "float32, asked for by name" in rows["engine"]
    assert f"distinct {result.provenance['polytopes']['distinct']:,}" in rows["polytopes seen"]
    assert str(tmp_path / "map") in rows["folder"]
    assert "right.npy" in rows["maps"]
    assert "given by" in said.err
    assert not list((tmp_path / "map").glob("*.png"))
    assert not (tmp_path / "map" / "viewer").exists()


def test_figures_and_viewer_come_by_default(nets: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "map"
    words = ["--resolution", "24", "--engine", "float32", "--out", str(out), "--json", "--quiet"]
    assert run(["heatmap", "--model", f"{nets}:pixels", *words]) == 0
    said = capsys.readouterr()
    whole = json.loads(said.out)
    assert said.err == ""
    assert (whole["schema"], whole["ok"]) == ("polykern-heatmap-result/1", True)
    assert whole["map"] == HeatMap.open(out).provenance
    assert {"map.json", "right.npy", "density.png", "viewer/index.html"} <= set(whole["files"])
    assert all((out / name).is_file() for name in whole["files"])
    assert whole["viewer"] == str(out / "viewer" / "index.html")


def test_a_network_that_is_not_trained_is_called_so(nets: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["heatmap", "--model", f"{nets}:pixels", "--dry-run", "--resolution", "16", "--engine", "float32"]
    assert run(words) == 0
    assert capsys.readouterr().err == "warning: pixels: random weights: NOT a trained network\n"


def test_a_finished_map_is_opened_again(
    make: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make() == 0
    first, before = capsys.readouterr().out, (tmp_path / "map" / "map.json").read_bytes()
    assert make() == 0
    assert capsys.readouterr().out == first
    assert (tmp_path / "map" / "map.json").read_bytes() == before


def test_overwrite_replaces_another_run(make: Callable[..., int], tmp_path: Path) -> None:
    assert make() == 0
    assert make("--zoom", "2") == 6
    assert make("--zoom", "2", "--overwrite") == 0
    assert make("--zoom", "2") == 0
    assert make() == 6


def test_a_zoom_has_its_centre(make: Callable[..., int], tmp_path: Path) -> None:
    assert make("--window", "-1", "-2", "8", "--zoom", "4", "--centre", "1.5", "0.5") == 0
    assert HeatMap.open(tmp_path / "map").window == (0.5, -0.5, 2.0)
    assert make("--window", "0.5", "-0.5", "2") == 0, "the same window said otherwise is the same run"


def test_flags_go_before_the_environment_and_that_before_defaults(
    make: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POLYKERN_SIGMA", "2.5")
    monkeypatch.setenv("POLYKERN_RESOLUTION", "4096")
    assert make("--json") == 0
    config = json.loads(capsys.readouterr().out)["map"]["config"]
    assert (config["sigma"], config["resolution"], config["seed"]) == (2.5, 24, 0)


def test_a_dry_run_says_what_it_takes_and_writes_nothing(
    make: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make("--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert not (tmp_path / "map").exists()
    assert plan["schema"] == "polykern-heatmap-plan/1"
    assert (plan["engine"], plan["rows"], plan["points"], plan["bits"]) == ("float32", 24, 576, 32)
    assert 0 < plan["memory"]["needed"] <= plan["budget"] == 32 << 30
    assert plan["seconds"] > 0
    assert make("--json") == 0
    maps = sum(p.stat().st_size - 128 for p in (tmp_path / "map").glob("*.npy"))  # a header each
    assert 0 <= plan["disk"] - maps <= 4 * 24**2
    assert (plan["ranks"], plan["share"]) == (1, 24)
    assert make("--dry-run") == 0
    assert "about" in capsys.readouterr().out


def test_every_step_is_said_when_wanted(make: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert make("-v", "--log-format", "json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    messages = [line["message"] for line in lines]
    assert "map: 0 of 24 rows" in messages
    assert "map: 24 of 24 rows" in messages
    assert {line["level"] for line in lines} == {"info", "debug"}


# VmHWM, not ru_maxrss: a child inherits its parent's largest resident set in the latter
PEAK = """
import sys
from polykern.cli.app import run
code = run(sys.argv[1:])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
sys.exit(code or f"peak {int(status['VmHWM'].split()[0]) // 1024}")
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("engine", ["float32", "anchored"])
def test_the_process_stays_within_its_memory_budget(nets: str, tmp_path: Path, engine: str) -> None:
    words = ["--resolution", "192", "--engine", engine, "--device", "cpu", "--no-figures", "--no-viewer", "-q"]
    command = ["heatmap", "--model", f"{nets}:wide", "--out", str(tmp_path / "map"), *words]
    done = started("-c", PEAK, *command, "--overwrite", "--memory-budget", "700MiB")
    assert 100 < int(done.stderr.split()[-1]) <= 700


# --- layers, doctor, view ---------------------------------------------------------------------------


def test_layers_lists_what_makes_the_code(nets: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["layers", f"{nets}:pixels"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["module", "call", "kind", "shape", "bits", "offset"]
    assert lines[2] == ["relu2", "0", "relu", "32", "x", "8", "x", "8", "2,048", "2,048"]
    assert lines[-1] == ["total", "5,248"]
    assert run(["layers", f"{nets}:pixels", "--start", "conv3", "--select", "relu4", "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert (whole["schema"], whole["bits"], whole["input_shape"]) == ("polykern-layers/1", 128, [32, 4, 4])
    assert [layer["module"] for layer in whole["layers"]] == ["relu4"]


def test_doctor_knows_every_package_that_polykern_asks_for() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    asked = {"": project["dependencies"], **project["optional-dependencies"]}
    names = {extra: {re.split(r"[;>=\[]", w)[0] for w in words} for extra, words in asked.items()}
    narrowed = {extra: found - names[""] if extra else found for extra, found in names.items()}
    assert {extra: set(listed) for extra, (listed, _) in doctor.PACKAGES.items()} == narrowed


@pytest.mark.usefixtures("unnamed_backend")
def test_doctor_says_what_runs_and_why_not_the_rest(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert run(["doctor", "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    kernels = {(k["device"], k["backend"]): k for k in whole["kernels"]}
    assert kernels["cpu", "cpu"]["used"]
    assert kernels["cpu", "reference"]["objection"] is None
    assert not kernels["cpu", "triton"]["used"]
    assert kernels["cpu", "triton"]["objection"]
    assert all(p["version"] or "pip install" in p["fix"] for p in whole["packages"])
    monkeypatch.setattr(metadata, "version", fails)
    assert run(["doctor"]) == 0
    assert "not installed, needed for language models: pip install 'polykern[text]'" in capsys.readouterr().out


def fails(name: str) -> str:
    raise metadata.PackageNotFoundError(name)


@pytest.mark.usefixtures("unnamed_backend")
def test_doctor_finds_a_kernel_that_computes_nonsense(monkeypatch: pytest.MonkeyPatch) -> None:
    from polykern_kernels import hamming

    honest = hamming.pairwise

    def wrong(a: Any, b: Any, *, backend: str | None = None) -> Any:
        return honest(a, b, backend=backend) + (backend == "cpu")

    monkeypatch.setattr(hamming, "pairwise", wrong)
    found = {k["backend"]: k for k in doctor.kernels("cpu")}
    assert found["cpu"]["objection"] == "gives wrong results"
    assert found["reference"]["used"]
    for word, used in [("reference", ["reference"]), ("cpu", [])]:  # the one that is named, or none
        monkeypatch.setenv("POLYKERN_BACKEND", word)
        assert [k["backend"] for k in doctor.kernels("cpu") if k["used"]] == used


def test_view_serves_a_map_until_interrupted(nets: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("heatmap", "--model", f"{nets}:net", "--out", str(tmp_path / "map"), *SMALL, "--viewer")
    assert run(words) == 0
    command = [sys.executable, "-P", "-m", "polykern", "view", str(tmp_path / "map"), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout
        whole = json.loads(server.stdout.readline())
        place = whole["url"].removeprefix("http://").removesuffix("/")
        connection = http.client.HTTPConnection(place)
        connection.request("GET", "/viewer/")
        answer = connection.getresponse()
        page = answer.read()
        connection.close()
        server.send_signal(signal.SIGINT)
        assert server.wait() == 0
    assert (answer.status, b"<html" in page) == (200, True)


# --- values, paces ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "amount"),
    [("4096", 4096), ("2GiB", 2 << 30), ("1.5g", 1_500_000_000), ("800 MB", 800_000_000), ("3ki", 3072), ("7b", 7)],
)
def test_amounts_of_memory(word: str, amount: int) -> None:
    assert size(word) == amount


@pytest.mark.parametrize("word", ["", "GiB", "-1", "1e9", "2 parsecs", "0.5", "99999999999T", "i", "1_000"])
def test_what_is_no_amount_of_memory(word: str) -> None:
    with pytest.raises(UsageError, match="no amount of memory"):
        size(word)


@pytest.mark.parametrize(
    ("wanted", "backend", "gpus", "place"),
    [
        ("auto", "auto", 0, "cpu"),
        ("auto", "auto", 2, "cuda:0"),
        ("auto", "cpu", 2, "cpu"),
        ("cpu", "auto", 2, "cpu"),
        ("auto", "triton", 1, "cuda:0"),
        ("cuda", "auto", 1, "cuda:0"),
        ("cuda:1", "triton", 2, "cuda:1"),
    ],
)
def test_where_to_compute(
    monkeypatch: pytest.MonkeyPatch, wanted: str, backend: str, gpus: int, place: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    assert device(wanted, backend) == place


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.25, "0.25 s"), (12.4, "12 s"), (200.0, "3 min"), (7500.0, "2 h 5 min"), (3590.0, "1 h 0 min")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert spelled(seconds) == words


def test_the_time_left_counts_from_where_a_run_was_resumed() -> None:
    clock = iter(np.arange(0.0, 100.0, 10.0).tolist())
    pace = Pace(lambda: next(clock))
    assert pace.left("map", 60, 100) is None
    assert pace.left("map", 70, 100) == pytest.approx(30.0)
    assert pace.left("map", 80, 100) == pytest.approx(20.0)
    assert pace.left("audit", 0, 10) is None


def test_lines_come_now_and_then() -> None:
    time, said = [0.0], list[str]()
    lines = Lines(said.append, "rows", 30.0, lambda: time[0])
    for k in range(11):
        time[0] = 10.0 * k
        lines("map", k, 10)
    assert said == [
        "map: 3 of 10 rows, 70 s left",
        "map: 6 of 10 rows, 40 s left",
        "map: 9 of 10 rows, 10 s left",
        "map: 10 of 10 rows",
    ]


def test_the_bar_is_drawn_on_a_terminal(
    make: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert make() == 0
    said = capsys.readouterr()
    assert "24/24" in said.err
    assert "24/24" not in said.out


def test_loggers_are_left_as_they_were(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("polykern")
    before = logger.level, list(logger.handlers)
    for word in ("--quiet", "--verbose"):
        assert run(["doctor", word]) == 0
        assert (logger.level, list(logger.handlers)) == before
    capsys.readouterr()
