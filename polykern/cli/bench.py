"""`polykern bench`: what operations and main jobs cost here, beside the peers and the limits of the hardware."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polykern.cli import options, values
from polykern.cli.talk import Talk
from polykern.errors import UsageError

if TYPE_CHECKING:
    from polykern_benches._board import Board
    from polykern_benches._document import Document
    from polykern_benches._harness import Case, Setting

LIST = "polykern-bench-list/1"
EXAMPLES = (
    "polykern bench --list",
    "polykern bench --filter 'hamming.*' --out before.json",
    "polykern bench --from after.json --compare before.json",
)
WRONG, REGRESSION = 1, 7
PLACES = ("from", "out", "compare", "plot")  # options that name files
MEASURED, COMPARED = "What is measured", "What is done with it"

Filter = Annotated[
    list[str] | None,
    options.option("--filter", panel=MEASURED, metavar="GLOB",
                   help="Cases by name, heavy ones too; repeatable. hamming.*, or a case with its sizes."),
]  # fmt: skip
Listed = Annotated[
    bool, options.option("--list", panel=MEASURED, metavar="", help="Name the cases; measure nothing.")
]
Full = Annotated[
    bool, options.option("--full", panel=MEASURED, metavar="", help="Heavy cases as well: minutes to hours.")
]
Small = Annotated[
    bool,
    options.option(
        "--small", panel=MEASURED, metavar="", help="Toy sizes: does it run? Times of these mean nothing."
    ),
]
Threads = Annotated[
    int | None,
    options.option(
        "--threads", panel=MEASURED, env="THREADS", min=1, metavar="N", help="Threads of the CPU. Default: all."
    ),
]
From = Annotated[
    Path | None,
    options.option("--from", panel=MEASURED, metavar="FILE", help="Take the run in this file; measure nothing."),
]
Out = Annotated[
    Path | None, options.option("--out", panel=COMPARED, metavar="FILE", help="Write the run: polykern-bench/1.")
]
Compare = Annotated[
    Path | None,
    options.option("--compare", panel=COMPARED, metavar="BASE",
                   help="Hold the run against the one in a file; exit code 7 where a case became slower."),
]  # fmt: skip
Across = Annotated[
    bool,
    options.option(
        "--across-machines", panel=COMPARED, metavar="", help="Compare even with another machine's run."
    ),
]
Plot = Annotated[
    Path | None,
    options.option(
        "--plot", panel=COMPARED, metavar="DIR", help="Draw the roofline, and time against size, as PNG."
    ),
]


def command(
    ctx: typer.Context,
    globs: Filter = None,
    listed: Listed = False,
    full: Full = False,
    small: Small = False,
    device: options.Device = "auto",
    threads: Threads = None,
    source: From = None,
    out: Out = None,
    compare: Compare = None,
    across: Across = False,
    plot: Plot = None,
) -> None:
    """Time operations and main jobs on this machine, beside other libraries, as shares of what its units can do.

    A result is checked before it is timed. Caches are cold, times are medians, and a share is of a ceiling that was
    measured in the same process; one above 100% is an error. Libraries that are not installed are named with the
    line that installs them.

    The exit code is 1 where a result was wrong or a share impossible, and 7 where --compare finds a case that
    became slower: by more than 5%, and with a bootstrap interval that excludes 1.
    """
    talk: Talk = ctx.obj
    _check(source, measures=bool(globs or listed or full or small or threads))

    from polykern_benches import _compare, _document

    if out is not None:
        _document.require_free(out)
        _document.require_free(_document.draft(out))
    base = None if compare is None else _document.read(compare)
    if source is not None:
        whole = _document.read(source)
    else:
        setting, board = _place(device, small, threads)
        wanted = _wanted(setting, globs or [], full or listed)
        if listed:
            _say_list(talk, wanted, setting)
            return
        if base is not None:
            _refuse_early(wanted, setting, board, base, across)
        whole = _measured(talk, wanted, setting, board, out)
    changes: list[_compare.Change] = []
    if base is not None:
        if not across:
            _compare.comparable(whole, base)
        changes = _compare.compare(whole, base)
    if out is not None:
        _document.write(out, whole)
        _document.draft(out).unlink(missing_ok=True)
    _say(talk, whole, changes, _drawn(whole, plot))


def _settings(talk: Talk) -> dict[str, Any]:
    """What the run was measured with; a file that others open says nothing of the folders of this machine."""
    kept = {name: s for name, s in talk.settings.items() if name not in PLACES}
    return {name: {"value": s["value"], "from": Path(s["from"]).name} for name, s in kept.items()}


def _check(source: Path | None, *, measures: bool) -> None:
    """Raise UsageError where a run is both taken from a file and measured."""
    if source is not None and measures:
        raise UsageError(
            "--from takes a run that was measured", fix="leave out --filter, --list, --full, --small and --threads"
        )


def _place(device: str, small: bool, threads: int | None) -> tuple["Setting", "Board | None"]:
    """Where is measured: the current device of torch, and the board that tells of its clocks."""
    import torch

    from polykern_benches import _machine
    from polykern_benches._board import Board
    from polykern_benches._harness import Setting

    kind, _, index = values.device(device, "auto").partition(":")
    if kind == "cuda":
        torch.cuda.set_device(int(index))
    _machine.threads(threads)
    return Setting(kind, small), Board.of(kind)


def _wanted(setting: "Setting", globs: Sequence[str], full: bool) -> list["Case"]:
    from polykern_benches import _suite

    return _suite.chosen(_suite.cases(setting), globs, full=full)


def _refuse_early(
    wanted: Sequence["Case"], setting: "Setting", board: "Board | None", base: "Document", across: bool
) -> None:
    """Raise what a comparison would raise, before anything is measured."""
    from polykern_benches import _compare, _document

    if not across:
        _compare.comparable(_document.document(setting, board, [], {}), base)
    _compare.require_common([_document.identity(case) for case in wanted], base)


def _measured(
    talk: Talk, wanted: Sequence["Case"], setting: "Setting", board: "Board | None", out: Path | None
) -> "Document":
    """A run of cases; after each, what there is stands beside `out`."""
    from polykern_benches import _document, _suite

    if setting.small:
        talk.say("toy sizes: the numbers mean nothing", "warning")
    begun = _document.document(setting, board, [], {}) | {"settings": _settings(talk)}

    def keep(records: list[dict[str, Any]], ceilings: dict[str, float], left: int) -> None:
        if out is not None:
            talk.kept = _document.draft(out)
            _document.write(talk.kept, begun | {"ceilings": ceilings, "results": records, "left": left})

    with talk.progress("cases") as progress:
        records, ceilings = _suite.run(wanted, setting, board, progress, keep)
    return begun | {"ceilings": ceilings, "results": records}


def _drawn(whole: "Document", folder: Path | None) -> list[str]:
    """The pictures of a run."""
    if folder is None:
        return []
    from polykern_benches import _plots

    return [str(path) for path in _plots.write(whole, folder)]


def _say(talk: Talk, whole: "Document", changes: Sequence[Any], plots: list[str]) -> None:
    """The table of the run, or of the comparison; raises the exit code that goes with it."""
    from polykern_benches import _compare, _shown

    failed = [r for r in whole["results"] if "failed" in r]
    slower = [c for c in changes if c.verdict == _compare.SLOWER]
    said = {**whole, "ok": not failed and not slower}
    said |= {"comparison": [c.as_dict() for c in changes]} if changes else {}
    said |= {"plots": plots} if plots else {}
    if changes:
        talk.result([_compare.HEAD, *map(_compare.cells, changes)], said, right=_compare.RIGHT)
    else:
        talk.result([_shown.HEAD, *map(_shown.cells, whole["results"])], said, right=_shown.RIGHT)
    if left := whole.get("left"):
        talk.say(f"{left} cases had no turn: the run was interrupted", "warning")
    for record in failed:
        where = f"{record['case']} {_shown.sizes(record['params'])}, {record['backend']}"
        talk.say(f"{where}: {record['failed']}", "error")
    if failed:
        raise typer.Exit(WRONG)
    if slower:
        talk.say(f"{len(slower)} of {len(changes)} became slower", "error")
        raise typer.Exit(REGRESSION)


def _say_list(talk: Talk, cases: Sequence["Case"], setting: "Setting") -> None:
    from polykern_benches import _measure, _shown

    whole: dict[str, Any] = {"schema": LIST, "device": setting.device, "cases": []}
    rows = []
    for case in cases:
        ours, peers = _measure.ways(case, setting)
        whole["cases"].append({
            "case": case.operation, "params": case.params, "dtype": case.dtype, "heavy": case.heavy,
            "backends": ours, "peers": peers,
        })  # fmt: skip
        backends = ", ".join(ours) + (f"; beside {', '.join(peers)}" if peers else "")
        group = "when named, or --full" if case.heavy else ""
        rows.append((case.operation, _shown.sizes(case.params), case.dtype, backends, group))
    talk.result(rows, whole)
