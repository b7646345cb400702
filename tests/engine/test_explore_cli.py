"""`polykern explore` on the command line: its address, its end, and what it refuses."""

import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from polykern.cli.app import run
from polykern.cli.explore import _words


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_and_ends_when_it_is_told_to(nets: str, sent: signal.Signals) -> None:
    words = ["explore", "--model", f"{nets}:other", "--device", "cpu", "--centre", "0.5", "-0.25", "--zoom", "8"]
    line = [sys.executable, "-P", "-m", "polykern", *words, "--json"]
    with subprocess.Popen(line, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        told = json.loads(process.stdout.readline())
        assert (told["schema"], told["ok"]) == ("polykern-explore/1", True), told
        assert told["deepest_level"] > 20
        assert told["reason"]
        found = re.fullmatch(r"(http://127\.0\.0\.1:\d+/)#0\.5,-0\.25,8\.0", told["url"])
        assert found
        with urllib.request.urlopen(found[1], timeout=60) as page:
            assert b"polytope density, live" in page.read()
        process.send_signal(sent)
        said = process.stderr.read()
    assert process.returncode == (0 if sent is signal.SIGINT else 143)
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--model", "{}:straight"], 2, "no nonlinearity between"),
        (["--model", "{}:diverged"], 3, "NaN or infinity"),
        (["--engine", "tile"], 2, "--engine has no 'tile'"),
        (["--zoom", "1e30"], 2, "float64 ends at level"),
        (["--zoom", "0"], 2, "--zoom must be positive"),
        (["--zoom", "nan"], 2, "--zoom must be finite"),
        (["--centre", "inf", "0"], 2, "--centre must be finite"),
        (["--window", "0", "0", "1e-13"], 2, "too narrow for float64"),
        (["--window", "0", "0", "-1"], 2, "the side of --window must be positive"),
        (["--port", "65536"], 2, "--port"),
        (["--indices", "0", "1", "2", "--images", "a", "b", "c"], 2, "two ways to say the same"),
        (["--memory-budget", "1MiB"], 4, "too small"),
    ],
)
def test_what_cannot_be_explored_is_refused(
    nets: str, words: list[str], code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [w.format(nets) for w in words]
    model = [] if "--model" in words else ["--model", f"{nets}:other"]
    assert run(["explore", *model, *given, "--device", "cpu"]) == code
    said = capsys.readouterr()
    assert told in said.err
    assert said.out == ""


def test_a_port_in_use_is_refused(nets: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        words = ["explore", "--model", f"{nets}:other", "--device", "cpu", "--port", str(port), "--json"]
        assert run(words) == 4
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["exit_code"]) == ("polykern-error/1", 4)
    assert told["what"] == f"port {port} cannot be opened"


def test_the_command_of_a_view_says_what_was_asked_for() -> None:
    assert shlex.join(_words(model="digits", engine="auto", seed=0, classes=None)) == "polykern heatmap"
    words = _words(
        model="my nets.py:net", start="", select=["conv*", "fc"], indices=(3, 1, 2), classes=False, engine="tiles",
        memory_budget="4GiB", seed=7,
    )  # fmt: skip
    assert shlex.join(words) == (
        "polykern heatmap --model 'my nets.py:net' --start '' --select 'conv*' --select fc --indices 3 1 2 "
        "--no-classes --engine tiles --memory-budget 4GiB --seed 7"
    )
