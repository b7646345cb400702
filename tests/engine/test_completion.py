"""The tabulator in real shells: what `polykern --install-completion` leaves makes them complete names."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PATIENCE = 60.0  # seconds
SHELLS = ("bash", "zsh", "fish")
# becomes a shell that the terminal belongs to, as fish wants it
OWNED = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"


class Typed:
    """A shell on a terminal of its own."""

    def __init__(self, terminal: int) -> None:
        self.terminal, self.seen = terminal, ""

    def type(self, keys: str) -> None:
        """Press keys; what was seen before is forgotten."""
        self.seen = ""
        os.write(self.terminal, keys.encode())

    def wait(self, text: str) -> None:
        """Until the terminal shows a text."""
        end = time.monotonic() + PATIENCE
        while text not in self.seen:
            ready, _, _ = select.select([self.terminal], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"no {text!r} in {self.seen!r}"
            self.seen += os.read(self.terminal, 4096).decode(errors="replace")


@contextmanager
def shell(name: str, home: Path) -> Iterator[Typed]:
    """An interactive shell in a home of its own, in which `polykern` is this tree."""
    ours, theirs = pty.openpty()
    env = {"HOME": str(home), "PATH": f"{home / 'bin'}:{os.environ['PATH']}", "TERM": "xterm", "LANG": "C.UTF-8"}
    env |= {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PS1": "> ", "SHELL": name}
    words = [sys.executable, "-P", "-S", "-c", OWNED, name, "-i"]
    with subprocess.Popen(
        words, stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=home, start_new_session=True
    ) as run:
        os.close(theirs)
        try:
            yield Typed(ours)
        finally:
            run.kill()
            os.close(ours)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Has a program `polykern`, and no settings of a shell but an empty file that keeps zsh from asking."""
    program = tmp_path / "bin" / "polykern"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m polykern "$@"\n')
    program.chmod(0o755)
    (tmp_path / ".zshrc").touch()
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("name", SHELLS)
def test_a_shell_completes_what_is_begun(name: str, home: Path) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    with shell(name, home) as typed:
        typed.type("polykern --install-completion\n")
        typed.wait(f"{name} completion installed")
    with shell(name, home) as typed:
        typed.type("polykern heat\t")
        if name == "zsh":
            typed.wait("\a")  # the first one of a session only loads the function
            typed.type("\t")
        typed.wait("map")
        typed.type("--engine sc\t")
        typed.wait("anline")
        typed.type("--model googlenet-r\t")
        typed.wait("andom")
