"""SIGINT and SIGTERM at any moment of any command: exit code, one error, nothing torn, the same bytes after."""

import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from polykern.cli.app import run
from tests.trust.faults import SIGNALS, Fault, watched
from tests.trust.jobs import EVERY, JOBS, Job, left
from tests.trust.ledger import SCALE, scaled, trial

PROMISE = "R13 signals: resumable"
LONG = [job for job in EVERY if "{out}" in job.words]
DAILY = ("heatmap", "partition", "capture", "cluster")
CODES = {"SIGINT": 130, "SIGTERM": 143}
JOBS_OF_TODAY = [job.name for job in LONG if SCALE > 1 or job.name in DAILY]


@contextmanager
def after(seconds: float, sent: str) -> Iterator[None]:
    """A context in which a signal comes after so many seconds of CPU time, if it is not over by then.

    Before a command listens, and when it does no longer, the signal does nothing.
    """

    def send(number: int, frame: FrameType | None) -> None:
        signal.raise_signal(SIGNALS[sent])

    def unheard(number: int, frame: FrameType | None) -> None:
        pass

    before = {number: signal.signal(number, unheard) for number in SIGNALS.values()}
    before[signal.SIGPROF] = signal.signal(signal.SIGPROF, send)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def require_sound(job: Job, inputs: Path, out: Path, whole: dict[str, Any], said: str) -> None:
    """Fail unless what an interrupted job has left is told as it is, is no result, and becomes the whole one."""
    line, something = job.line(inputs, out), out.exists() and (out.is_file() or any(out.iterdir()))
    if "nothing was written" in said:
        assert not something
    if "holds the whole result" in said:
        assert left(out) == whole
    if something and left(out) != whole:
        assert "complete          yes" not in verified(out)
    code = run([*line, "-q"])
    if job.again == "begins" and something:
        assert code in (0, 2)  # what stands there is refused without --overwrite
        code = code and run([*line, "-q", "--overwrite"])
    assert code == 0
    assert left(out) == whole
    assert not [p for p in out.parent.iterdir() if p != out]  # nothing beside it either


def verified(out: Path) -> str:
    """What is said of it by a reader that finds it."""
    import contextlib
    import io

    held = io.StringIO()
    with contextlib.redirect_stdout(held), contextlib.redirect_stderr(held):
        run(["verify", str(out)])
    return held.getvalue()


@pytest.mark.parametrize("name", JOBS_OF_TODAY)
def test_a_signal_at_a_call_of_the_system(
    inputs: Path, folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    job, rng = JOBS[name], random.Random(name)
    with watched() as system:
        assert run([*job.line(inputs, folder / "whole" / "out"), "-q"]) == 0
    whole = left(folder / "whole" / "out")
    for number, at in enumerate(rng.choices(range(1, system.calls + 1), k=scaled(2, 4 * system.calls))):
        sent, out = ("SIGINT", "SIGTERM")[number % 2], folder / str(number) / "out"
        capsys.readouterr()
        with trial(PROMISE):
            with watched(Fault(at, sent)) as again:
                code = run([*job.line(inputs, out), "-q"])
            said = capsys.readouterr().err
            if again.calls < at:  # the first run also kept what was compiled
                assert (code, left(out)) == (0, whole)
                continue
            assert (code, said.count("error: ")) == (CODES[sent], 1), (at, code, said)
            assert f"error: interrupted by {sent}" in said
            assert "Traceback" not in said
            require_sound(job, inputs, out, whole, said)


def test_a_file_that_is_there_is_said_to_be_whole(
    inputs: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = JOBS["bench"].line(inputs, folder / "out")
    with watched() as system:
        assert run(line) == 0
    (folder / "out").unlink()
    capsys.readouterr()
    with trial(PROMISE), watched(Fault(system.calls, "SIGTERM")):  # the file has its name, its folder is not synced
        assert run(line) == CODES["SIGTERM"]
    assert f"{folder / 'out'} holds the whole result" in capsys.readouterr().err
    assert left(folder / "out")[""]


# a moment may lie between `open` and its `with`
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("name", JOBS_OF_TODAY)
def test_a_signal_at_any_moment(inputs: Path, folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    job, rng = JOBS[name], random.Random(name)
    began = time.process_time()
    assert run([*job.line(inputs, folder / "whole" / "out"), "-q"]) == 0
    spent, whole = time.process_time() - began, left(folder / "whole" / "out")
    for number in range(scaled(1, 30)):
        sent, out = rng.choice(list(SIGNALS)), folder / str(number) / "out"
        capsys.readouterr()
        with trial(PROMISE):
            with after(rng.uniform(0.01, 1) * spent, sent):
                code = run([*job.line(inputs, out), "-q"])
            said = capsys.readouterr().err
            assert code in (0, CODES[sent]), (code, said)
            assert "Traceback" not in said
            require_sound(job, inputs, out, whole, said)
