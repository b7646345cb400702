"""`polykern capture`: what it says, what it refuses, and runs that are interrupted."""

import io
import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from polykern.capturing.plan import LIBRARIES
from polykern.cli import capture as module
from polykern.cli.app import run
from polykern.store import Store
from tests.engine.languages import GIVEN, TEXT, files
from tests.engine.test_models_text import MINILM

ROOT = Path(__file__).parents[2]


@pytest.fixture
def nets(tmp_path: Path) -> str:
    """A file of the user's own with language models."""
    path = tmp_path / "nets.py"
    path.write_text(GIVEN)
    return str(path)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for k in range(5):
        (folder / f"{k}.txt").write_text(TEXT * (k + 1))
    return folder


def words(nets: str, corpus: Path, out: Path, *more: str) -> list[str]:
    line = ["capture", "--model", f"{nets}:pair", "--corpus", str(corpus), "--out", str(out)]
    return [*line, "--length", "32", "--device", "cpu", *more]


def test_a_capture_and_what_is_said_about_it(
    nets: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words(nets, corpus, tmp_path / "s")) == 0
    said = capsys.readouterr()
    rows = dict(line.split("  ", 1) for line in said.out.splitlines())
    store = Store.open(tmp_path / "s")
    assert f"{len(store):,} rows of 256 bits in 2 layers" in rows["codes"]
    assert rows["folder"].strip() == str(tmp_path / "s")
    assert "given by" in said.err
    assert run(words(nets, corpus, tmp_path / "s", "--json")) == 0
    whole = json.loads(capsys.readouterr().out)
    assert (whole["schema"], whole["ok"], whole["new_rows"]) == (module.RESULT, True, 0)
    assert (whole["rows"], whole["config_hash"]) == (len(store), store.config_hash)


def test_a_dry_run_writes_nothing(
    nets: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words(nets, corpus, tmp_path / "s", "--dry-run", "--json")) == 0
    plan = json.loads(capsys.readouterr().out)
    assert not (tmp_path / "s").exists()
    assert run(words(nets, corpus, tmp_path / "s")) == 0
    rows = len(Store.open(tmp_path / "s"))
    assert plan["schema"] == module.PLAN
    assert 0.8 * rows < plan["rows"] < 1.25 * rows
    assert (plan["bits"], plan["row"]) == (256, 256 // 8 + 3 * 4)
    size = sum(p.stat().st_size for p in (tmp_path / "s").rglob("*.safetensors"))
    assert 0.5 * size < plan["disk"] + 2 * 4096 < 1.5 * size
    assert plan["seconds"] > 0
    assert plan["memory"] > plan["process"] > 1 << 20
    capsys.readouterr()
    assert run(words(nets, corpus, tmp_path / "t", "--dry-run", "--limit-tokens", "9")) == 0
    assert "about 9" in capsys.readouterr().out


def test_a_dry_run_tells_a_rank_its_part(
    nets: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"RANK": 0, "WORLD_SIZE": 3, "MASTER_ADDR": "localhost", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    asked = words(nets, corpus, tmp_path / "s", "--dry-run", "--shard-size", "2KiB")
    assert run([*asked, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["ranks"] == 3
    assert plan["rows"] / 3 <= plan["share"] <= plan["rows"] / 3 + 2048 // plan["row"]
    assert run(asked) == 0
    assert re.search(r"ranks +3 processes, \d+ rows of the one that has most", capsys.readouterr().out)


def test_batches_shrink_to_the_budget(
    nets: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("polykern.amounts.resident", lambda: (100 << 20) - LIBRARIES)
    small = ["--shard-size", "1KiB"]
    assert run(words(nets, corpus, tmp_path / "s", *small, "--memory-budget", "102MiB")) == 0
    assert 32 <= Store.open(tmp_path / "s").about["batch"] < 4096
    assert run(words(nets, corpus, tmp_path / "t", *small, "--memory-budget", "100.01MiB")) == 4
    assert "MiB are needed" in capsys.readouterr().err
    assert run(words(nets, corpus, tmp_path / "u", *small, "--memory-budget", "9GiB")) == 0
    assert Store.open(tmp_path / "u").about["batch"] == 4096


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--tokens", "some"], 2, "cannot be chosen by 'some'"),
        (["--dtype", "int8"], 2, "--dtype has no 'int8'"),
        (["--images", "."], 2, "two kinds of data"),
        (["--block", "0", "--select", "h.1"], 2, "two ways to say the same"),
        (["--select", "h.7"], 2, "no nonlinearity is called 'h.7'"),
        (["--length", "9999"], 2, "reads 64 tokens at once"),
        (["--memory-budget", "much"], 2, "no amount of memory"),
        (["--strict"], 3, "x.jsonl: byte 0"),
        (["--activations", "nothing"], 2, "no activation is called 'nothing'"),
        (["--activations", "output:nothing"], 2, "no module 'nothing'"),
    ],
)
def test_what_is_refused(
    more: list[str], code: int, said: str, nets: str, corpus: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (corpus / "x.jsonl").write_text("broken\n")
    assert run(words(nets, corpus, tmp_path / "s", *more)) == code
    assert said in capsys.readouterr().err


def test_words_without_a_sense(nets: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "s")
    for line, code, said in (
        (["--corpus", "stdlib"], 2, "no folder for the codes"),
        (["--model", "gpt2", "--out", out], 2, "gpt2 reads text, and there is none"),
        (["--corpus", str(tmp_path / "none"), "--out", out], 2, "no corpus"),
        (["--model", "digits", "--length", "4", "--out", out], 2, "--length is for text"),
        (["--model", "nobody/nothing", "--corpus", nets, "--out", out], 2, "no language model 'nobody/nothing'"),
        (["--model", f"{nets}:nothing", "--corpus", nets, "--out", out], 2, "has no function 'nothing'"),
        (["--model", f"{nets}:broken", "--corpus", nets, "--out", out], 3, "NaN"),
    ):
        assert run(["capture", "--device", "cpu", *line]) == code, line
        assert said in capsys.readouterr().err


def test_another_run_is_refused(
    nets: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words(nets, corpus, tmp_path / "s")) == 0
    before = files(tmp_path / "s")
    assert run(words(nets, corpus, tmp_path / "s", "--tokens", "stride:2")) == 6
    assert "config.tokens" in capsys.readouterr().err
    assert files(tmp_path / "s") == before
    assert run(words(nets, corpus, tmp_path / "s", "--tokens", "stride:2", "--overwrite")) == 0
    assert files(tmp_path / "s") != before


def test_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--model", "digits", "--select", "relu3", "--positions", "1,2", "--limit-documents", "9", "--json"]
    assert run(["capture", *line, "--device", "cpu", "--out", str(tmp_path / "s")]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert (whole["rows"], whole["bits"], whole["about"]["grid"]) == (9, 64, [4, 4])


def test_standard_input(nets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Piped:
        buffer = io.BufferedReader(io.BytesIO(b'{"body": "in the rain"}\n'))

    monkeypatch.setattr(sys, "stdin", Piped)
    line = ["capture", "--model", f"{nets}:whole", "--corpus", "-", "--text-key", "body", "--device", "cpu"]
    assert run([*line, "--out", str(tmp_path / "s")]) == 0
    store = Store.open(tmp_path / "s")
    assert "".join(store.context(0, after=99).pieces).startswith("in the rain")


@MINILM
@pytest.mark.slow
def test_the_example(tmp_path: Path) -> None:
    line = shlex.split(module.EXAMPLES[0].partition("polykern ")[2].replace("20000", "600"))
    line[-1] = str(tmp_path / "minilm.codes")
    assert run([*line, "--device", "cpu"]) == 0
    store = Store.open(tmp_path / "minilm.codes")
    assert (len(store), store.layout.bits) == (600, 6 * 1536)


HELD = """
import sys
from polykern.store import Writer
real = Writer.write
def write(self, *args, **kwargs):
    if self.next == 2:
        print("held", flush=True)
        sys.stdin.read()
    return real(self, *args, **kwargs)
Writer.write = write
from polykern.cli.app import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_is_finished_with_the_same_bytes(
    nets: str, corpus: Path, tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    more = ["--shard-size", "2KiB", "--batch", "64"]
    assert run(words(nets, corpus, tmp_path / "whole", *more)) == 0
    command = words(nets, corpus, tmp_path / "torn", *more)
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    line = [sys.executable, "-c", HELD, *command]
    with subprocess.Popen(line, text=True, cwd=ROOT, **pipes) as process:  # the file of networks imports tests
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        process.send_signal(sent)
        _, said = process.communicate()
    assert process.returncode == code, said
    assert not json.loads((tmp_path / "torn" / "manifest.json").read_text())["complete"]
    assert len(list((tmp_path / "torn" / "shards").glob("*.json"))) == 2
    resume = next(line for line in said.splitlines() if "fix: " in line).partition("fix: ")[2]
    assert shlex.split(resume) == ["polykern", *command]
    assert run(command) == 0
    assert files(tmp_path / "torn") == files(tmp_path / "whole")
