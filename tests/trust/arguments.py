"""Command lines that nobody should write: every option of every command with values that do not fit.

Commands and their options are those of the app itself, so that a new one is covered by itself. `sandbox` makes a
working directory with results, files and folders that are good, foreign or made to do harm; `call` carries a
command line out in it. A command that gets so far as to work is asked to end, as SIGTERM asks: by its report of
progress, when it would serve, or after half a second of computing.
"""

import io
import os
import re
import resource
import signal
import socketserver
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partialmethod
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
import typer
from hypothesis import strategies as st
from safetensors.torch import save_file

from polykern.cli.app import app, run
from polykern.cli.failures import Interrupted
from polykern.cli.talk import Talk
from polykern_benches import _suite
from tests.engine.cli_nets import NETS
from tests.engine.clustered import clustering, photo, store
from tests.engine.languages import GIVEN, documents
from tests.engine.wordnets import wordnet
from tests.trust.writers import EVERY

COMMANDS: dict[str, Any] = dict(sorted(typer.main.get_command(app).commands.items()))  # type: ignore[attr-defined]
CODES = {0, 2, 3, 4, 5, 6, 7, 130, 143}  # as docs and CONTRIBUTING have them; 1 is a bug
SECONDS, ROOM = 0.5, 3 << 30  # of computing; bytes of address space beyond what the process has
SMALL = {
    "MODEL": "nets.py:pixels", "RESOLUTION": "16", "ENGINE": "float32", "POSITIONS": "12", "BALL": "4",
    "PAIRS": "2", "CHECKED": "2", "REGIONS": "20", "POINTS": "8", "ROWS": "50", "CAPTURE_CORPUS": "corpus",
    "EMBEDDINGS_CORPUS": "corpus", "SYNONYMS_WORDNET": "wordnet", "SYNONYMS_TOKENS": "9",
}  # fmt: skip
SPEAKING = {"minilm", "gpt2", "smollm2"}  # a command with such a default wants a language model
GOOD = {
    "out": ["new"], "store": ["b.codes"], "clusters": ["b.clusters"], "result": ["b.codes", "a.map"],
    "folder": ["a.explorer"],
    "model": ["nets.py:pixels"], "of": ["heatmap"], "against": ["b.clusters"], "images": ["photos"],
    "source": ["a.bench/run.json"],
    "compare": ["a.bench/run.json"], "sae": ["sae.safetensors"], "at": ["output:h.0"],
}  # fmt: skip

AUTOENCODER = {"W_enc": (32, 40), "b_enc": (40,), "W_dec": (40, 32), "b_dec": (32,)}

NUMBERS = [
    "0", "-1", "1", "2", "7", "1.5", "nan", "inf", "-inf", "1e308", "1e-308", "-0.0", "1e999", "0x10", "1_0",
    "１２", "+3",
    " 4 ", "1,5", "--", "2147483648", "-9223372036854775809", "9" * 40, "1" * 5000, "1/0", "٣", "½", "true", "None",
]  # fmt: skip
WORDS = [
    "", " ", "\t", "\n", "\x00", "\x1b[2J", "\u202e", "\ud800", "é", "🦔", "x" * 300, "a\nb", "*", "[", "[!]",
    "%s", "{}",
    "{0.__class__}", "$HOME", "`id`", "-", "-x", "--out", "--help-me", "@file.txt", "cpu", "cuda:99", "auto",
    "reference",
    "all", "fp16", ":fp16", "output:", "input:0:fp32", "stride:0", "sample:-1", "centre", "0,0", "-1,-1",
    "1GiB", "0GiB",
    "10,25", ",", "eom", "leaf", "euclidean", "jaccard", "local", "lerp", "text", "json", "0", "relu", "1", "3",
]  # fmt: skip
MODELS = [
    "nets.py:net", "nets.py:straight", "nets.py:diverged", "nets.py:nut", "nets.py:", "nowhere.py:net",
    "folder.py:net",
    "os:getcwd", "sys:exit", ":", "::", ".:x", "a\0b:c", "file.txt:net", "evil.pt:net", "digit", "a/b", "folder",
]  # fmt: skip
PLACES = [
    "", ".", "..", "/", "missing", "missing/deeper", "folder", "folder/precious.txt", "file.txt",
    "file.txt/inside", "empty",
    "loop", "loop/inside", "dangling", "/dev/null", "/proc/self/mem", "/proc/1/root", "~", "~nobody/x", "a\0b",
    "\ud800",
    "x" * 300, "nosuch://x", "memory://nothing", "file://missing", "://", "s3://", "line\nbreak", "nets.py",
    "new", "new/deep",
]  # fmt: skip
EVIL = ["evil.pt", "evil.npy", "evil.npz", "evil.gguf", "evil.safetensors", "evil.json", "evil.png", "evil.toml"]
RESULTS = [
    "a.codes",
    "a.map",
    "a.clusters",
    "a.partition",
    "a.findings",
    "a.embeddings",
    "a.bench/run.json",
    "a.bench",
    "a.explorer",
    "b.codes",
    "b.clusters",
]


# --- where ------------------------------------------------------------------------------------------------


def sandbox(root: Path) -> None:
    """Fill a folder with what a command may be pointed at; `precious.txt`, in every folder, is the user's own."""
    (root / "nets.py").write_text(NETS)
    (root / "speech.py").write_text(GIVEN)
    (root / "file.txt").write_text("no pairs, no numbers, no pictures\n")
    documents(root)
    wordnet(root / "wordnet")
    (root / "photos").mkdir()
    (root / "photos" / "a.png").write_bytes(photo(1, 8))
    save_file({name: torch.zeros(s) for name, s in AUTOENCODER.items()}, root / "sae.safetensors")
    of = store(root / "b.codes", 24)
    clustering(root / "b.clusters", of, np.arange(24) % 3 - 1)
    for name in EVIL:
        (root / name).write_bytes(b"\x93NUMPY\x01\x00" + b"\xff" * 90)
    for name in EVERY:
        EVERY[name].write(root / f"a.{name}")
        (root / f"a.{name}" / "precious.txt").write_text("mine\n")
    (root / "folder").mkdir()
    (root / "folder.py").mkdir()
    (root / "empty").mkdir()
    (root / "folder" / "precious.txt").write_text("irreplaceable\n")
    (root / "loop").symlink_to("loop")
    (root / "dangling").symlink_to("nowhere/at/all")


def contents(root: Path) -> dict[str, bytes | None]:
    """Every file below a folder, links as what they point to, folders as None."""
    found: dict[str, bytes | None] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = bytes(path.readlink())
        else:
            found[name] = path.read_bytes() if path.is_file() else None
    return found


# --- what -------------------------------------------------------------------------------------------------


def _values(param: Any) -> st.SearchStrategy[str]:
    """Values for an option or an argument: more of those that it nearly takes."""
    told = f"{param.name} {param.metavar or ''}".upper()
    pools = [NUMBERS, WORDS, [str(param.default)]]
    if re.search("MODEL", told):
        pools += [MODELS] * 3
    elif re.search("DIR|FILE|PATH|STORE|CLUSTERS|RESULT|OUT|BASE|IMAGE|A B|CORPUS|FOLDER|SCORES|BY", told):
        pools += [PLACES, PLACES, EVIL, RESULTS, RESULTS]
    elif re.search(r"\b[NKXRSPTDUVIJ]\b|PX|SIZE|SHARE|LAST", told):
        pools += [NUMBERS] * 4
    return st.one_of(*(st.sampled_from(pool) for pool in pools), st.text(max_size=6), st.floats().map(str))


def _options(command: Any) -> list[Any]:
    """But for --verbose, whose tracebacks are asked for."""
    return [
        p for p in command.params if p.param_type_name == "option" and not {"--help", "--verbose"} & set(p.opts)
    ]


@st.composite
def lines(draw: st.DrawFn, name: str) -> list[str]:
    """The words of one command line."""
    command = COMMANDS[name]
    words = [_word(draw, p) for p in command.params if p.param_type_name == "argument" and draw(st.integers(0, 9))]
    every = _options(command)
    chosen = draw(st.lists(st.sampled_from(every), max_size=3))
    chosen += [p for p in every if (p.required or p.name == "out") and draw(st.integers(0, 19))]
    if not draw(st.integers(0, 14)):  # of another command
        chosen.append(draw(st.sampled_from([p for c in COMMANDS.values() for p in _options(c)])))
    for param in chosen:
        words.append(draw(st.sampled_from([*param.opts, *param.secondary_opts])))
        if not (param.is_flag or param.count):
            wanted = abs(param.nargs)
            given = wanted if draw(st.integers(0, 14)) else draw(st.integers(0, wanted + 1))
            words += [_word(draw, param) for _ in range(given)]
    if not draw(st.integers(0, 19)):
        words += ["--config", draw(st.sampled_from([*PLACES, *EVIL]))]
    if not draw(st.integers(0, 14)):
        words.insert(draw(st.integers(0, len(words))), draw(st.sampled_from(WORDS)))
    return [name, *words]


def _word(draw: st.DrawFn, param: Any) -> str:
    """What an option or an argument takes, more often than not something else."""
    good = GOOD.get(param.name, [] if param.default is None else [str(param.default)])
    required = param.required or param.name == "out" or param.param_type_name == "argument"
    if good and draw(st.integers(0, 5)) < (5 if required else 1):
        return draw(st.sampled_from(good))
    return draw(_values(param))


# --- how --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """What came of a command line."""

    code: int
    out: str
    err: str


def call(words: list[str], reports: int = 1) -> Said:
    """Carry a command line out in the working directory, up to its report of progress of this number."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "strict", newline="") for _ in range(2))
    with pytest.MonkeyPatch.context() as patch, _bounded():
        for name, value in SMALL.items():
            patch.setenv(f"POLYKERN_{name}", value)
        for command, whole in COMMANDS.items():
            if any(p.name == "model" and p.default in SPEAKING for p in whole.params):
                patch.setenv(f"POLYKERN_{command}_MODEL".upper(), "speech.py:pair")
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        patch.setattr(Talk, "progress", partialmethod(_stopped, reports))
        patch.setattr(socketserver.BaseServer, "serve_forever", _asked_to_end)
        patch.setattr(_suite, "run", _asked_to_end)
        code = run(words)
        told = []
        for stream in (out, err):
            stream.flush()
            told.append(stream.buffer.getvalue().decode())
    return Said(code, *told)


@contextmanager
def _stopped(self: Talk, reports: int, unit: str) -> Iterator[Any]:
    left = iter(range(reports - 1))
    yield lambda *said: None if next(left, None) is not None else _asked_to_end()


def _asked_to_end(*args: Any, **kwargs: Any) -> None:
    raise Interrupted(signal.SIGTERM)


def _out_of_time(number: int, frame: FrameType | None) -> None:
    """Ask the command to end where polykern computes: not in an import, a compiler or a collector of garbage."""
    files = []
    while frame is not None:
        files.append(frame.f_code.co_filename)
        frame = frame.f_back
    ours = "/polykern" in files[0] and not any(re.search("importlib|numba|llvmlite|triton", f) for f in files)
    if ours and getattr(signal.getsignal(signal.SIGTERM), "__module__", "") == Interrupted.__module__:  # it listens
        _asked_to_end()
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.02)


@contextmanager
def _bounded() -> Iterator[None]:
    """A context with so much more memory and processor time and no more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGVTALRM, _out_of_time)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, hard))
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGVTALRM, before)


# --- what must hold ---------------------------------------------------------------------------------------


def require_clear(words: list[str], said: Said) -> None:
    """Fail unless the exit code is a documented one and an error one clear line, with why and fix behind it."""
    assert said.code in CODES, (words, said)
    assert "Traceback" not in said.err, (words, said)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", said.out + said.err), (words, said)
    lines = said.err.splitlines()
    first = [k for k, line in enumerate(lines) if re.match(r'error: |\{"level": "error"', line)]
    assert len(first) == (said.code != 0), (words, said)
    if said.code:
        assert lines[first[0]].removeprefix("error: ").strip(), (words, said)
        assert all(re.match("  (why|fix): .", line) for line in lines[first[0] + 1 :]), (words, said)
        assert said.out == "" or said.out.startswith("{") or words[0] in ("verify", "explore", "view"), (
            words,
            said,
        )


def require_kept(words: list[str], before: dict[str, bytes | None], root: Path) -> None:
    """Fail unless every file is as it was and a new one is where it was asked for; then make all as it was."""
    after = contents(root)
    lost = {name for name, data in before.items() if name not in after or after[name] != data}
    new = after.keys() - before.keys()
    places = [Path(os.path.normpath(word)) for word in words if "\0" not in word]
    written = [Path(name) for name in new if not any(Path(name).is_relative_to(p) for p in places)]
    try:
        assert not {n for n in lost if "--overwrite" not in words or n.endswith(".txt")}, (words, lost)
        assert not written, (words, written)
    finally:
        for name in sorted(new, reverse=True):
            path = root / name
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        for name in lost:
            data = before[name]
            path = root / name
            if data is not None and not path.is_symlink():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
