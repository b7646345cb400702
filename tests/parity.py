"""The suite on one backend, which runs every kernel whose backend a test leaves open; the answers must stay.

    python -m pytest -p tests.parity --parity reference tests/engine tests/store tests/scores tests/kernels

cpu, reference  named by POLYKERN_BACKEND, for this process and for those it starts
triton          in the interpreter, for calls of this process alone: the command line refuses it without a GPU

A test is stopped after --stop seconds of CPU, or where the backend objects to its tensors, and counted; it has not
failed. The run of cpu notes the files that reach such a kernel or start a process; the others leave out the rest.
"""

import collections
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from polykern_kernels import _dispatch

NOTES = "polykern/parity"  # in pytest's cache
STARTS = {"subprocess.Popen", "os.fork", "os.posix_spawn"}
STOPPED, OBJECTED = "stopped: seconds of CPU", "the backend objects"
HEAD = ("passed", "stopped", "objected", "skipped", "failed", "CPU seconds")


class Parity:
    """One run: what became of the tests, and the files that reach a kernel."""

    def __init__(self, backend: str, seconds: float) -> None:
        self.backend, self.seconds = backend, seconds
        self.counts: collections.Counter[str] = collections.Counter()
        self.file, self.ran, self.reached = "", set[str](), set[str]()
        self.late, self.asked = False, True
        self.ended: list[BaseException | None] = []  # raised by tests that were stopped; a fixture raises it again

    def reach(self) -> None:
        """Note that the test which runs reaches a kernel or starts a process."""
        self.reached |= {self.file} - {""}  # what is collected runs for no test

    @contextmanager
    def limited(self) -> Iterator[None]:
        """A context that is left by a skip once it has taken its seconds."""

        def stop(number: int, frame: FrameType | None) -> None:
            self.late = True
            self.reach()  # it may have been on its way
            pytest.skip(STOPPED)

        old = signal.signal(signal.SIGPROF, stop)
        signal.setitimer(signal.ITIMER_PROF, self.seconds, 1.0)  # again, should something swallow it
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, old)

    # --- what pytest calls ------------------------------------------------------------------------

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        notes = cache_of(config).get(NOTES, {}) if self.backend != "cpu" else {}
        idle = set(notes.get("ran", ())) - set(notes.get("reached", ()))
        left_out = [i for i in items if file_of(i) in idle]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [i for i in items if file_of(i) not in idle]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        self.file, self.late = file_of(item), False
        self.asked = "unnamed_backend" not in getattr(item, "fixturenames", ())
        self.ran.add(self.file)
        with self.limited():
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        with self.limited():
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
        report: Any = yield
        error = call.excinfo.value if call.excinfo else None
        objected = isinstance(error, _dispatch.BackendError) and f"\n  {self.backend}: " in str(error)
        late = self.late or any(error is known for known in self.ended)
        if report.failed and (late or objected):
            self.ended.append(error)
            report.outcome = "skipped"
            report.longrepr = (str(item.path), item.location[1] or 0, OBJECTED if objected else STOPPED)
        return report  # type: ignore[no-any-return]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped:
            why = str(report.longrepr)
            self.counts["stopped" if STOPPED in why else "objected" if OBJECTED in why else "skipped"] += 1
        elif report.failed or report.when == "call":
            self.counts[report.outcome] += 1

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.backend == "cpu":
            cache_of(session.config).set(NOTES, {"ran": sorted(self.ran), "reached": sorted(self.reached)})

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        self.counts["CPU seconds"] = round(sum(os.times()[:4]))  # of this process and of those it waited for
        terminalreporter.section(
            f"the suite on {self.backend}, {len(self.reached)} files reach a kernel or a process"
        )
        terminalreporter.write_line("".join(f"{name:>13}" for name in HEAD))
        terminalreporter.write_line("".join(f"{self.counts[name]:>13,}" for name in HEAD))


def cache_of(config: pytest.Config) -> pytest.Cache:
    """What pytest keeps from run to run."""
    assert config.cache is not None
    return config.cache


def file_of(item: pytest.Item) -> str:
    """The file of a test, from the root."""
    return item.nodeid.partition("::")[0]


def watched(run: Parity) -> None:
    """Name the backend, and let the run know of every call that leaves it open."""
    real = _dispatch._named
    if run.backend != "triton":
        os.environ[_dispatch.BACKEND] = run.backend

    def named(op: str, known: Sequence[str]) -> str | None:
        run.reach()
        return "triton" if run.asked and run.backend == "triton" in known else real(op, known)

    _dispatch._named = named
    sys.addaudithook(lambda event, args: run.reach() if event in STARTS else None)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("parity")
    group.addoption("--parity", choices=("cpu", "reference", "triton"), default="cpu")
    group.addoption("--stop", type=float, default=20.0, help="seconds of CPU a test may take")


def pytest_configure(config: pytest.Config) -> None:
    asked: Any = config.option
    run = Parity(asked.parity, asked.stop)
    watched(run)
    if asked.parity == "triton":  # NumPy, in which the interpreter computes, speaks of NaN
        for said in ("invalid value", "All-NaN"):
            config.addinivalue_line("filterwarnings", f"ignore:{said}:RuntimeWarning")
    config.pluginmanager.register(run, "parity of backends")
