"""Progress with the time that is left."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self


class Silence:
    """Nobody wants to know."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Say nothing."""


class Pace:
    """The time left in a stage, from what was done since it was first heard of.

    now  a clock, seconds
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self._stage, self._since, self._had = "", 0.0, 0

    def left(self, stage: str, done: int, total: int) -> float | None:
        """Seconds left; None until something was done. What was done before the first call does not count."""
        if stage != self._stage:
            self._stage, self._since, self._had = stage, self.now(), done
        if done <= self._had:
            return None
        return (self.now() - self._since) * (total - done) / (done - self._had)


class Lines:
    """A line now and then.

    say    puts a line out
    unit   of what is counted
    every  seconds between lines of a stage at least; its end is always said
    """

    def __init__(
        self, say: Callable[[str], None], unit: str, every: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.say, self.unit, self.every, self.now = say, unit, every, now
        self.pace = Pace(now)
        self._last = now()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report, unless the last line is too fresh."""
        left = self.pace.left(stage, done, total)
        if done < total and self.now() - self._last < self.every:
            return
        self._last = self.now()
        rest = "" if left is None or done == total else f", {spelled(left)} left"
        self.say(f"{stage}: {done:,} of {total:,} {self.unit}{rest}")


class Bar:
    """A bar on a terminal, gone when it is done."""

    def __init__(self, unit: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self.pace = Pace()
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit, markup=False),
            TextColumn("{task.fields[left]}", markup=False),
        )
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Move the bar of a stage."""
        left = self.pace.left(stage, done, total)
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(stage, total=total, left="")
        shown = "" if left is None else f"{spelled(left)} left"
        self._bar.update(self._tasks[stage], completed=done, total=total, left=shown)


def spelled(seconds: float) -> str:
    """A duration as a person says it: 45 s, 3 min, 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
