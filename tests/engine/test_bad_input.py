"""Every way a command can be misused: its exit code, one clear line, and nothing of the user's lost."""

import hashlib
import importlib.util
import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from polykern.cli.app import run
from polykern.cli.failures import Interrupted, exit_code
from polykern.cli.talk import Talk

SMALL = ("--resolution", "24", "--engine", "float32", "--no-figures", "--no-viewer", "--device", "cpu")


def digests(folder: Path) -> dict[str, str]:
    """Every file below a folder with the sha256 of its bytes."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def refused(capsys: pytest.CaptureFixture[str], code: int, message: str, *words: str) -> str:
    """Run a command that must be refused; its stderr."""
    capsys.readouterr()
    assert run(words) == code
    said = capsys.readouterr()
    first, *more = [line for line in said.err.splitlines() if not re.match(r"\S*(nets.py:|warning: )", line)]
    assert re.search(message, first), said.err
    assert first.startswith("error: ")
    assert all(re.match("  (why|fix): ", line) for line in more)
    assert said.out == ""
    return said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--start", "2.relu"], "the model has no module '2.relu'"),
        (["--stop", "nothing"], "the model has no module 'nothing'"),
        (["--select", "conv*"], r"no nonlinearity is called 'conv\*'"),
        (["--resolution", "0"], "--resolution must be within 2 .. 65536, got 0"),
        (["--resolution", "1"], "--resolution must be within 2 .. 65536, got 1"),
        (["--resolution", "1000000"], "--resolution must be within 2 .. 65536"),
        (["--resolution", "many"], "Invalid value for '--resolution'"),
        (["--indices", "4", "4", "5"], "the three anchors lie on one line"),
        (["--indices", "0", "1", "1000"], "no generated input 1000"),
        (["--indices", "0", "1", "-1"], "no generated input -1"),
        (["--images", "a.png", "b.png", "c.png"], "no file a.png"),
        (["--images", "a", "b", "c", "--indices", "0", "1", "2"], "two ways to say the same"),
        (["--engine", "tile"], "--engine has no 'tile'"),
        (["--arithmetic", "float8"], "--arithmetic has no 'float8'"),
        (["--backend", "cuda"], "--backend has no 'cuda'"),
        (["--backend", "triton"], "--backend triton does not run on cpu"),
        (["--device", "gpu"], "--device has no 'gpu'"),
        (["--log-format", "xml"], "no log format 'xml'"),
        (["--memory-budget", "plenty"], "'plenty' is no amount of memory"),
        (["--memory-budget", "0"], "0 is no amount of memory"),
        (["--window", "0", "0"], "--window"),
        (["--window", "0", "0", "wide"], "Invalid value for '--window'"),
        (["--window", "0", "0", "-1"], "the side of --window must be positive, got -1"),
        (["--window", "nan", "0", "1"], "--window must be finite, got nan"),
        (["--zoom", "0"], "--zoom must be positive, got 0"),
        (["--zoom", "inf"], "--zoom must be finite, got inf"),
        (["--centre", "nan", "0"], "--centre must be finite"),
        (["--sigma", "-1"], "--sigma must not be negative"),
        (["--seed", "-1"], "Invalid value for '--seed'"),
        (["--quiet", "--verbose"], "contradict each other"),
        (["--no-such-option"], "No such option"),
    ],
)
def test_options_that_do_not_fit(
    nets: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    out = tmp_path / "map"
    refused(capsys, 2, message, "heatmap", "--model", f"{nets}:net", "--out", str(out), *SMALL, *words)
    assert not out.exists()


def test_a_mistyped_start_is_told_its_nearest_names(nets: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(
        capsys, 2, "no module 'fc'", "heatmap", "--model", f"{nets}:pixels", "--dry-run", "--start", "fc"
    )
    assert re.search("fix: nearest names: .*fc1", said)


@pytest.mark.parametrize(
    ("model", "code", "message"),
    [
        ("digit", 2, "no model is called 'digit'; did you mean 'digits'"),
        ("{}:nut", 2, "has no function 'nut'"),
        ("{}:straight", 2, "no nonlinearity between"),
        ("{}:diverged", 3, "the parameter 2.weight holds NaN or infinity"),
        ("nowhere.at_all:net", 2, "no module 'nowhere.at_all'"),
    ],
)
def test_models_that_cannot_be_mapped(
    nets: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str, code: int, message: str
) -> None:
    out = tmp_path / "map"
    refused(capsys, code, message, "heatmap", "--model", model.format(nets), "--out", str(out), *SMALL)
    assert not out.exists()


def test_images_that_do_not_fit(nets: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, large, text = (str(tmp_path / name) for name in ("good.png", "large.png", "text.png"))
    Image.new("L", (8, 8), 7).save(good)
    Image.new("L", (9, 8), 7).save(large)
    Path(text).write_text("no image")
    command = ("heatmap", "--model", f"{nets}:pixels", "--out", str(tmp_path / "map"), *SMALL, "--images", good)
    said = refused(capsys, 2, "digits wants an image of 8 x 8 pixels", *command, good, large)
    assert "large.png has 9 x 8" in said
    refused(capsys, 2, "text.png is not an image that can be read", *command, text, good)
    refused(capsys, 2, "anchors lie on one line", *command, good, good)
    assert not (tmp_path / "map").exists()


@pytest.mark.parametrize("missing", ["heatmap --dry-run --model", "layers"])
def test_a_missing_package_is_named_with_its_pip_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    there = importlib.util.find_spec
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "torchvision" else there(n, *a))
    said = refused(capsys, 5, "torchvision is not installed", *missing.split(), "googlenet-initial")
    assert "pip install 'polykern[vision]'" in said


def test_a_device_that_is_not_there(
    nets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    command = ("heatmap", "--model", f"{nets}:net", "--out", str(tmp_path / "map"))
    refused(capsys, 4, "there is no device cuda:1", *command, "--device", "cuda:1")
    refused(capsys, 4, "there is no device cuda:0", *command, "--backend", "triton")


def test_a_memory_budget_too_small_says_what_it_takes(
    nets: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("heatmap", "--model", f"{nets}:net", "--out", str(tmp_path / "map"), *SMALL, "--memory-budget")
    said = refused(
        capsys, 4, "a memory budget of 20 MiB is too small: about [0-9.]+ [MG]iB are needed", *command, "20MiB"
    )
    assert not (tmp_path / "map").exists()
    enough = re.search(r"--memory-budget (\d+)MiB", said)
    assert enough
    assert run((*command, f"{int(enough[1]) + 64}MiB")) == 0


def test_a_disk_too_small_says_what_it_takes(
    nets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=5000))
    command = ("heatmap", "--model", f"{nets}:net", "--out", str(tmp_path / "map"), *SMALL)
    refused(capsys, 4, r"the map takes [0-9.]+ KiB of disk, 4\.88 KiB are free", *command)
    assert not (tmp_path / "map").exists()


def change(name: str, value: bytes) -> Callable[[Path], None]:
    """Overwrite a file of a folder."""

    def damage(folder: Path) -> None:
        (folder / name).write_bytes(value)

    return damage


@pytest.mark.parametrize(
    ("code", "message", "words", "damage"),
    [
        (6, "holds another run's heat map", ["--seed", "1"], None),
        (6, "holds another run's heat map", ["--zoom", "2"], None),
        (6, "holds another run's heat map", ["--resolution", "25"], None),
        (6, "holds another run's heat map", ["--model", "{}:other"], None),
        (3, "map.json cannot be read", [], change("map.json", b"{")),
        (3, "map.json is not a heat map's", [], change("map.json", b'{"schema": "polykern-codes/1"}')),
        (3, "right.npy: cannot be read", [], change("right.npy", b"torn")),
        (3, "down.npy: holds", [], lambda folder: np.save(folder / "down.npy", np.zeros((3, 3), np.uint16))),
    ],
)
def test_a_folder_of_another_run_is_refused_and_kept(
    nets: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    code: int,
    message: str,
    words: list[str],
    damage: Callable[[Path], None] | None,
) -> None:
    out = tmp_path / "map"
    command = ("heatmap", "--model", f"{nets}:net", "--out", str(out), *SMALL)
    assert run(command) == 0
    if damage is not None:
        damage(out)
    before = digests(out)
    refused(capsys, code, message, *command, *(w.format(nets) for w in words))
    assert digests(out) == before


def test_a_mismatch_names_what_differs(nets: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ("heatmap", "--model", f"{nets}:net", "--out", str(tmp_path / "map"), *SMALL)
    assert run(command) == 0
    said = refused(capsys, 6, "another run", *command, "--sigma", "0.5")
    assert re.search(r"why: sigma: 0\.09375 there, 0\.5 here", said)


def test_a_folder_of_something_else_is_refused_and_kept(
    nets: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter-1.tex").write_text("irreplaceable")
    command = ("heatmap", "--model", f"{nets}:net", *SMALL, "--out")
    refused(capsys, 6, "thesis is not empty and holds no heat map", *command, str(out))
    assert digests(tmp_path / "thesis") == {"chapter-1.tex": hashlib.sha256(b"irreplaceable").hexdigest()}
    refused(capsys, 2, "chapter-1.tex is not a folder", *command, str(out / "chapter-1.tex"))
    assert (out / "chapter-1.tex").read_text() == "irreplaceable"


def test_no_folder_at_all(nets: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, 2, "no folder for the result", "heatmap", "--model", f"{nets}:net")


def test_what_cannot_be_viewed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, 2, "holds no page", "view", str(tmp_path))
    refused(capsys, 2, "Invalid value for '--port'", "view", str(tmp_path), "--port", "70000")


def test_with_json_an_error_is_an_object_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["layers", "digit", "--json"]) == 2
    said = capsys.readouterr()
    whole = json.loads(said.out)
    assert (whole["schema"], whole["ok"], whole["exit_code"]) == ("polykern-error/1", False, 2)
    assert (whole["kind"], "did you mean 'digits'" in whole["what"]) == ("UsageError", True)
    assert said.err.startswith("error: no model is called 'digit'")
    assert run(["heatmap", "--json", "--resolution", "x"]) == 2
    assert json.loads(capsys.readouterr().out)["kind"] == "UsageError"


def test_a_bug_is_called_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise KeyError("what")

    monkeypatch.setattr("polykern.models.load", fail)
    said = refused(capsys, 1, "KeyError: 'what'", "layers", "digits")
    assert "this is a bug in polykern" in said
    assert run(["layers", "digits", "-vv"]) == 1
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("POLYKERN_TRACEBACK", "1")
    assert run(["layers", "digits"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(28, "No space left on device", "maps"), 4, "maps cannot be written"),
        (OSError(30, "Read-only file system", "maps"), 2, "maps cannot be used"),
        (MemoryError(), 4, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 4, "out of memory"),
        (OSError(12, "Cannot allocate memory"), 4, "out of memory"),
        (ImportError("failed to map segment: Cannot allocate memory"), 4, "out of memory"),
        (RuntimeError("Triton Error [CUDA]: out of memory"), 4, "out of memory"),
        (RuntimeError("cannot cache function 'f': no locator available"), 4, "compiled loops cannot be kept"),
    ],
)
def test_what_the_system_refuses(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
    message: str,
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr("polykern.models.load", fail)
    refused(capsys, code, message, "layers", "digits")


@pytest.mark.parametrize(
    "words", [("cluster", "a.codes", "--out", "b"), ("heatmap", "--overwrite", "--out", "a b")]
)
def test_the_command_that_goes_on_does_not_begin_again(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(Interrupted(15), Talk(started=True, command=("polykern", *words))) == 143
    told = capsys.readouterr().err.splitlines()[-1]
    assert shlex.split(told.partition("fix: ")[2]) == ["polykern", *(w for w in words if w != "--overwrite")]


def test_hostile_names_reach_the_terminal_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["layers", f"{tmp_path}/\x1b[2J\u202e.py:net"]) == 2
    assert not set("\x1b\u202e") & set(capsys.readouterr().err)
