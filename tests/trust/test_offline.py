"""Every command does its smallest real job with nobody to talk to, and an import does nothing but import."""

import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from polykern.cli.app import run
from tests.trust.jobs import EVERY, JOBS
from tests.trust.ledger import SCALE, trial

PROMISE = "R15 offline: no connection"
TALKING = ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname")
ALWAYS = ("layers", "info", "config", "heatmap-tiles")
ALONE = """
import sys, tempfile
from pathlib import Path
from polykern.cli.app import run
from tests.trust.jobs import EVERY, prepared
with tempfile.TemporaryDirectory() as folder:
    place = prepared(Path(folder) / "in", run)
    failed = [job.name for job in EVERY if run([*job.line(place, Path(folder) / job.name), "-q"])]
sys.exit(f"failed: {failed}" if failed else 0)
"""
SILENT = """
import os, sys, threading
told = []
def heard(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)):
        place = os.path.realpath(os.fsdecode(args[0]))
        writes = set(str(args[1] or "")) & set("wax+") or (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes or not place.startswith(tuple(sys.argv[2].split(os.pathsep))):
            told.append((event, place, args[1]))
    elif event.startswith(("socket.", "subprocess.", "os.mkdir", "os.rename", "os.remove", "os.fork", "os.system")):
        told.append((event, str(args)))
def state():
    tasks = os.listdir("/proc/self/task") if os.path.isdir("/proc/self/task") else []
    return dict(os.environ), sys.path[:], threading.enumerate(), tasks, "torch" in sys.modules
for name in sys.argv[3:]:
    __import__(name)  # what it rests on
before = state()
sys.addaudithook(heard)
__import__(sys.argv[1])
assert not told, told
assert state() == before
"""

_said: list[tuple[str, str]] | None = None  # what is overheard, while somebody listens


def _heard(event: str, args: tuple[object, ...]) -> None:
    if _said is not None and event in TALKING:
        _said.append((event, repr(args)))


@contextmanager
def listening() -> Iterator[list[tuple[str, str]]]:
    """A context in which every attempt to talk to somebody is written down, from Python or from its libraries."""
    global _said
    if not hasattr(sys, "_polykern_listens"):
        sys.addaudithook(_heard)  # for good: a hook cannot be taken back
        sys._polykern_listens = True  # type: ignore[attr-defined]
    said: list[tuple[str, str]] = []
    _said = said
    try:
        yield said
    finally:
        _said = None


def _drawn() -> list[str]:
    """The jobs of today: all in a soak, else some that are always there and two that are drawn."""
    if SCALE > 1:
        return [job.name for job in EVERY]
    cheap = ["synonyms", "embeddings", "superposition", "complexity", "residual", "verify", "score", "cluster"]
    return [*ALWAYS, *random.Random(7).sample(cheap, 2)]


@pytest.mark.parametrize("name", _drawn())
def test_a_command_talks_to_nobody(inputs: Path, folder: Path, name: str) -> None:
    before = set(threading.enumerate())
    with trial(PROMISE), listening() as said:
        assert run(JOBS[name].line(inputs, folder / "out")) == 0
        assert said == []
    assert {t.name for t in set(threading.enumerate()) - before if not t.daemon} == set()


def test_a_connection_would_be_heard() -> None:
    import socket

    with listening() as said, socket.socket() as one, pytest.raises(AssertionError, match="a connection to"):
        one.connect(("127.0.0.1", 9))  # which no test of this folder may
    assert said == []
    with listening() as said:
        socket.getaddrinfo("127.0.0.1", 9)
    assert [event for event, _ in said] == ["socket.getaddrinfo"]


@pytest.mark.skipif(SCALE == 1, reason="every command in a process of its own: a soak")
def test_every_command_where_there_is_no_network() -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rn", "true"], check=False, capture_output=True).returncode:
        pytest.skip("a process may not be given a network of its own here")
    with trial(PROMISE, len(EVERY)):
        done = subprocess.run(
            [unshare, "-rn", sys.executable, "-c", ALONE], cwd=Path(__file__).parents[2], text=True, check=False,
            capture_output=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("names", [["polykern"], ["polykern.cli.app"], ["polykern_kernels", "torch"]][: 1 + SCALE])
def test_an_import_opens_nothing_and_starts_nothing(names: list[str]) -> None:
    """No file but those of Python and its packages, none for writing; no thread, process, socket or variable."""
    root = Path(__file__).parents[2]
    allowed = {sys.prefix, sys.base_prefix, str(root), *(p for p in sys.path if p)}
    places = os.pathsep.join(os.path.realpath(p) for p in sorted(allowed))
    line = [sys.executable, "-B", "-c", SILENT, names[0], places, *names[1:]]
    with trial("R15 imports: nothing but Python's own files"):
        done = subprocess.run(line, cwd=root, text=True, capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
