"""All cases: which there are, which are meant, and a run of them."""

import difflib
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any

from polykern.errors import UsageError
from polykern.progress import Progress
from polykern_benches import _measure, _work
from polykern_benches._board import Board
from polykern_benches._harness import Case, Setting
from polykern_benches._work import Rates, higher

HERE = Path(__file__).parent
REMEASURED = 8  # times before a share above 100% is an error: others may have had the machine meanwhile


def cases(setting: Setting) -> list[Case]:
    """Every case of every file `bench_FAMILY.py`, in the order of their names."""
    names = sorted(path.stem for path in HERE.glob("bench_*.py"))
    return [case for name in names for case in import_module(f"polykern_benches.{name}").cases(setting)]


def chosen(found: Sequence[Case], globs: Sequence[str], *, full: bool = False) -> list[Case]:
    """The cases that were asked for.

    found  all cases
    globs  patterns of operations, or of whole names with their sizes; none means all that are not heavy
    full   heavy ones as well, where there is no pattern

    Raises UsageError for a pattern that nothing matches, naming the nearest operations.
    """
    for pattern in globs:
        if not any(_matches(case, pattern) for case in found):
            names = sorted({case.operation for case in found})
            near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.4) or names
            raise UsageError(
                f"--filter {pattern}: there is no such case",
                why=f"the nearest {'is' if len(near) == 1 else 'are'} {', '.join(near)}",
                fix="polykern bench --list",
            )
    if globs:
        return [case for case in found if any(_matches(case, pattern) for pattern in globs)]
    return [case for case in found if full or not case.heavy]


def _matches(case: Case, pattern: str) -> bool:
    return fnmatchcase(case.operation, pattern) or fnmatchcase(case.name, pattern)


def run(
    wanted: Sequence[Case],
    setting: Setting,
    board: Board | None,
    progress: Progress,
    keep: Callable[[list[dict[str, Any]], Rates, int], None] = lambda records, ceilings, left: None,
) -> tuple[list[dict[str, Any]], Rates]:
    """The records of the cases, and the ceilings that their shares are of.

    keep  is given both after every case, as they are by then, with the number of cases that are left

    A ceiling is a best case, and one moment may not show it: they are measured before, between and after the
    families, and the highest counts. A share above 100% has them measured again, and if it stays the record is a
    failure.
    """
    units = _counted(wanted, setting)
    ceilings = _work.measured(setting.device, setting.small, units)
    found: list[dict[str, Any]] = []
    done = 0
    for _, family in groupby(wanted, lambda case: case.operation.partition(".")[0]):
        for case in family:
            progress(case.operation, done, len(wanted))
            records = list(_measure.records(case, setting, board))
            for record in records:
                _measure.weigh(record, ceilings)
            found += records
            done += 1
            keep(found, ceilings, len(wanted) - done)
        ceilings = higher(ceilings, _work.measured(setting.device, setting.small, units))
    progress("cases", done, len(wanted))
    return found, _weighed(found, ceilings, setting)


def _counted(wanted: Sequence[Case], setting: Setting) -> set[str]:
    """The units that the work of the cases is counted in."""
    return {
        unit
        for case in wanted
        if case.cost is not None
        for way in _measure.ways(case, setting)[0]
        for unit in _work.amounts(case.cost, way, case.precision)
    }


def _weighed(found: list[dict[str, Any]], ceilings: Rates, setting: Setting) -> Rates:
    """Gives every record its share; returns the ceilings, measured again where a share was above 100%."""
    for _ in range(REMEASURED):
        if max(map(lambda r: _measure.weigh(r, ceilings), found), default=0.0) <= 1:
            return ceilings
        units = {unit for record in found for unit in record.get("work") or ()}
        ceilings = higher(ceilings, _work.measured(setting.device, setting.small, units))
    for record in found:
        if (share := _measure.weigh(record, ceilings)) > 1:
            bound = record["roofline"]["bound"]
            record["failed"] = f"{share:.0%} of the ceiling of {bound}: the ceiling or the cost is wrong"
    return ceilings
