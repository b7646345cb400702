"""Runs that are interrupted or killed: their exit code, and the same bytes after they are finished."""

import gc
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from polykern.cli.app import run
from polykern.cli.failures import Interrupted, watched
from tests.engine.cli_nets import NETS


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("nets") / "nets.py"
    path.write_text(NETS)
    return str(path)


def words(nets: str, out: Path, engine: str) -> list[str]:
    shape = ["--resolution", "300", "--engine", engine, "--device", "cpu", "--no-figures", "--no-viewer"]
    return ["heatmap", "--model", f"{nets}:net", "--out", str(out), *shape]


def maps(folder: Path) -> dict[str, bytes]:
    """Every file of a finished map but map.json and the settings, and no other file."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name not in ("map.json", "settings.toml")}


def provenance(folder: Path) -> dict[str, Any]:
    """map.json without the time that was spent."""
    whole: dict[str, Any] = json.loads((folder / "map.json").read_text())
    del whole["timings"], whole["check"]
    return whole


def held(command: list[str], out: Path, sent: signal.Signals) -> tuple[int, str]:
    """Run until the first band is recorded, send a signal then; the exit code and what was said."""
    environment = {**os.environ, "HOLD": str(out)}
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    line = [sys.executable, "-P", "-m", "polykern", *command]
    with subprocess.Popen(line, text=True, env=environment, **pipes) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        process.send_signal(sent)
        _, said = process.communicate()
    return process.returncode, said


@pytest.fixture(scope="module")
def killed(nets: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What SIGKILL leaves of a map in float32, to be copied."""
    path = tmp_path_factory.mktemp("killed") / "map"
    assert held(words(nets, path, "float32"), path, signal.SIGKILL)[0] == -signal.SIGKILL
    return path


def require_torn(folder: Path) -> None:
    """Fail unless there is one band of a map that is not finished."""
    assert [p.name for p in (folder / "parts").glob("*.npz")] == ["000000.npz"]
    assert not (folder / "map.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "code", "engine"),
    [(signal.SIGINT, 130, "float32"), (signal.SIGTERM, 143, "float64"), (signal.SIGINT, 130, "anchored")],
)
def test_an_interrupted_run_is_finished_with_the_same_bytes(
    nets: str, tmp_path: Path, sent: signal.Signals, code: int, engine: str
) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    assert run(words(nets, whole, engine)) == 0
    command = words(nets, torn, engine)
    ended, said = held(command, torn, sent)
    assert ended == code
    require_torn(torn)
    assert f"error: interrupted by {sent.name}" in said
    assert "Traceback" not in said
    resume = next(line for line in said.splitlines() if "fix: " in line).partition("fix: ")[2]
    assert shlex.split(resume) == ["polykern", *command]
    assert run(command) == 0
    assert maps(torn) == maps(whole)
    assert provenance(torn) == provenance(whole)


@pytest.mark.slow
def test_what_was_recorded_is_not_computed_again(
    nets: str, killed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, torn = tmp_path / "whole", shutil.copytree(killed, tmp_path / "torn")
    require_torn(torn)
    assert run(words(nets, whole, "float32")) == 0
    capsys.readouterr()
    assert run([*words(nets, torn, "float32"), "-v"]) == 0
    said = capsys.readouterr().err
    assert "map: 0 of" not in said
    assert "map: 128 of 300 rows" in said
    assert maps(torn) == maps(whole)
    assert provenance(torn) == provenance(whole)


@pytest.mark.slow
def test_another_command_is_refused_the_unfinished_folder(nets: str, killed: Path, tmp_path: Path) -> None:
    out = shutil.copytree(killed, tmp_path / "map")
    state = (out / "progress.json").read_bytes()
    assert run([*words(nets, out, "float32"), "--sigma", "3"]) == 6
    assert (out / "progress.json").read_bytes() == state


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("place", ["finaliser", "collector"])
def test_a_signal_where_exceptions_go_unheard_comes_again(sent: signal.Signals, place: str) -> None:
    class Interrupting:
        def __del__(self) -> None:
            signal.raise_signal(sent)

    def collecting(phase: str, about: dict[str, int]) -> None:
        gc.callbacks.remove(collecting)
        signal.raise_signal(sent)

    def worked() -> None:
        end = time.monotonic() + 10
        if place == "finaliser":
            Interrupting()
        else:
            gc.callbacks.append(collecting)
            gc.collect()
        while time.monotonic() < end:
            time.sleep(0.001)

    before = sys.unraisablehook, signal.getsignal(sent)
    with pytest.raises(Interrupted, match=sent.name), watched():
        worked()
    assert (sys.unraisablehook, signal.getsignal(sent)) == before


def test_other_exceptions_that_go_unheard_are_told_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        def __del__(self) -> None:
            raise ValueError("wrong")

    told: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(str(unraisable.exc_value)))
    with watched():
        Wrong()
    assert told == ["wrong"]
