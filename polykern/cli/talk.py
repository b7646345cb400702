"""What a command says: the result on stdout, everything else on stderr."""

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polykern.cli.pace import Bar, Lines, Silence
from polykern.errors import UsageError
from polykern.launch import launch
from polykern.progress import Progress
from polykern.report.script import json_for_script, visible

QUIET, PLAIN, VERBOSE, TRACEBACK = -1, 0, 1, 2
FORMATS = ("text", "json")
SPOKEN = {name: getattr(logging, name.upper()) for name in ("debug", "info", "warning", "error")}
LEVELS = {QUIET: logging.ERROR, PLAIN: logging.INFO}


def shared(ranks: int, share: int | None) -> list[tuple[str, str]]:
    """The row of a plan that says how several processes divide its rows; none for a process alone."""
    most = "" if share is None else f", {share:,} rows of the one that has most"
    return [("ranks", f"{ranks:,} processes{most}")] if ranks > 1 else []


@dataclass
class Talk:
    """The voice of one command.

    json       the result is one JSON object
    command    the command line, to say how to go on with it
    verbosity  -1 errors only, 0, 1 every step, 2 tracebacks as well
    log        "text", or "json": a JSON object a line on stderr
    started    whether an interruption leaves something that the same command finishes
    out        where the result goes, once that is known; what it held then is kept, to tell later what has changed
    kept       a file beside it with what was reached so far, once there is one
    file       of settings, that is read
    settings   option -> its value, and where it is from; they go with the result
    folders    of results, beside those that options name; the settings are left in them as well
    first      whether this is the first of several processes; the others say only what goes wrong
    """

    json: bool = False
    command: tuple[str, ...] = ("polykern",)
    verbosity: int = PLAIN
    log: str = "text"
    started: bool = False
    out: Path | None = None
    kept: Path | None = None
    file: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    folders: list[Path] = field(default_factory=list)
    first: bool = True
    _held: dict[str, tuple[int, int]] = field(default_factory=dict, repr=False)
    _handler: logging.Handler | None = field(default=None, repr=False)
    _level: int = field(default=logging.NOTSET, repr=False)  # of the loggers before

    def settle(self, *, quiet: bool = False, verbose: int = 0, log: str = "text") -> None:
        """Take what the options say, and speak for the library's loggers from now on."""
        if log not in FORMATS:
            raise UsageError(f"no log format {log!r}", fix=f"choose one of {', '.join(FORMATS)}")
        if quiet and verbose:
            raise UsageError("--quiet and --verbose contradict each other")
        self.first = launch().first
        self.verbosity = QUIET if quiet or not (self.first or verbose) else min(verbose, TRACEBACK)
        self.log = log
        self._handler = _Handler(self)
        logger = logging.getLogger("polykern")
        self._level = logger.level
        logger.addHandler(self._handler)
        logger.setLevel(LEVELS.get(self.verbosity, logging.DEBUG))

    def writes(self, out: Path) -> None:
        """Where the result will go."""
        self.out, self._held = out, _held(out)

    @property
    def touched(self) -> bool:
        """Whether the place of the result is not as it was before."""
        return self.out is not None and _held(self.out) != self._held

    def close(self) -> None:
        """Leave the loggers as they were."""
        if self._handler is not None:
            logger = logging.getLogger("polykern")
            logger.removeHandler(self._handler)
            logger.setLevel(self._level)
            self._handler = None

    def result(self, rows: Sequence[tuple[str, ...]], whole: dict[str, Any], right: Sequence[int] = ()) -> None:
        """Put the result on stdout.

        rows   cells of a table without rules; the last column is as wide as it likes
        whole  the JSON object that stands for them; it gets "ok": true behind its schema, and the settings last
        right  columns that are flush right
        """
        if not self.first:
            return
        if self.json:
            self.object({"schema": whole["schema"], "ok": True, **whole, "settings": self.settings})
            return
        shown = [[visible(cell) for cell in row] for row in rows]
        wide = [max(map(len, column)) for column in zip(*shown, strict=True)]
        for row in shown:
            cells = [
                c.rjust(w) if k in right else c.ljust(w) for k, (c, w) in enumerate(zip(row, wide, strict=True))
            ]
            sys.stdout.write("  ".join(cells).rstrip() + "\n")
        sys.stdout.flush()

    def object(self, whole: dict[str, Any]) -> None:
        """One JSON object on stdout, by the first process."""
        if not self.first:
            return
        sys.stdout.write(json_for_script(whole) + "\n")
        sys.stdout.flush()

    def say(self, text: str, level: str = "info", **more: Any) -> None:
        """A line on stderr with its level: "debug", "info", "warning" or "error"."""
        if SPOKEN[level] < LEVELS.get(self.verbosity, logging.DEBUG):
            return
        if self.log == "json":
            line = json.dumps({"level": level, "message": text, **more})
        else:
            line = visible(f"{level}: {text}" if level in ("warning", "error") else text)
            line += "".join(f"\n  {k}: {visible(v)}" for k, v in more.items() if isinstance(v, str) and v)
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    @contextmanager
    def progress(self, unit: str) -> Iterator[Progress]:
        """Where a long computation reports to: a bar on a terminal, now and then a line elsewhere.

        unit  of what is counted, in the plural
        """
        if self.verbosity == QUIET:
            yield Silence()
        elif self.log == "text" and self.verbosity == PLAIN and sys.stderr.isatty():
            with Bar(unit) as bar:
                yield bar
        else:
            yield Lines(self.say, unit, every=0.0 if self.verbosity > PLAIN else 30.0)


def _held(out: Path) -> dict[str, tuple[int, int]]:
    """The files of a folder, or the one file, with the size and the time of each; none where there is none."""
    with suppress(OSError):
        files = out.iterdir() if out.is_dir() else [out]
        return {p.name: (s.st_size, s.st_mtime_ns) for p in files for s in [p.stat()]}
    return {}


class _Handler(logging.Handler):
    """Log records as lines of a talk."""

    def __init__(self, talk: Talk) -> None:
        super().__init__()
        self.talk = talk

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        self.talk.say(record.getMessage(), level if level in SPOKEN else "error")
