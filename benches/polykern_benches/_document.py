"""The file of a run: `polykern-bench/1`, written and read."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polykern.errors import CorruptError, MismatchError, UsageError
from polykern.store import inventory
from polykern.store.disk import make_folder, put
from polykern_benches._board import Board
from polykern_benches._harness import Case, Setting
from polykern_benches._machine import commit, environment
from polykern_benches._work import Rates

SCHEMA = "polykern-bench/1"
Document = dict[str, Any]
Record = dict[str, Any]
PARTS = {"created": str, "device": str, "small": bool, "env": dict, "ceilings": dict, "results": list}
NAMED = {"case": str, "params": dict, "dtype": str, "backend": str, "peer": bool}
TIMED = ("median_ms", "p20_ms", "p80_ms", "cv")


def document(setting: Setting, board: Board | None, results: Sequence[Record], ceilings: Rates) -> Document:
    """What ran, where, with which versions, against which ceilings."""
    env = environment(setting.device, board)
    return {
        "schema": SCHEMA,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "git": commit(),
        "polykern": env.pop("polykern"),
        "device": setting.device,
        "small": setting.small,
        "env": env,
        "ceilings": ceilings,
        "results": list(results),
    }


def write(path: Path, whole: Document) -> None:
    """Write a run, sealed, so that an interrupted writer leaves what was there."""
    make_folder(path.parent)
    put(path, [inventory.account(whole, path.parent)])


def draft(path: Path) -> Path:
    """Where the cases of a run are kept while others are measured: a.json -> a.partial.json."""
    return path.with_name(f"{path.stem}.partial{path.suffix}")


def require_free(path: Path) -> None:
    """Refuse to write over anything but a run, before one is measured.

    Raises UsageError where there is something that is no file, MismatchError where there is another file.
    """
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no file", fix="name another one")
    if path.exists() and path.stat().st_size:
        try:
            read(path)
        except CorruptError as reason:
            raise MismatchError(f"{path} holds no run", why=reason.why, fix="name another file") from reason


def read(path: Path) -> Document:
    """A run that was written.

    Raises UsageError where there is no such file, CorruptError where it is none of `polykern-bench/1` or misses
    something.
    """
    if not path.exists():
        raise UsageError(f"there is no {path}", fix="polykern bench --out FILE writes one")
    try:
        whole = inventory.read(path)
    except CorruptError as reason:
        raise CorruptError(f"{path} cannot be read", why=reason.why or reason.what) from reason
    schema = whole.get("schema")
    if schema != SCHEMA:
        raise CorruptError(f"{path} is no file of polykern bench", why=f"its schema is {schema!r}, not {SCHEMA!r}")
    _check(path, whole)
    return whole


def _check(path: Path, whole: Document) -> None:
    """Raise CorruptError unless everything is there that a reader relies on."""
    for name, kind in PARTS.items():
        if not isinstance(whole.get(name), kind):
            raise CorruptError(f"{path}: {name} is missing or of another type")
    for k, record in enumerate(whole["results"]):
        at = f"{path}: results[{k}]"
        if not isinstance(record, dict) or any(not isinstance(record.get(n), t) for n, t in NAMED.items()):
            raise CorruptError(f"{at} does not say what was measured")
        if "skipped" in record or "failed" in record:
            continue
        taken = record.get("samples_ms")
        if not isinstance(taken, list) or not taken or not all(map(_positive, taken)):
            raise CorruptError(f"{at} has no times")
        if not all(_number(record.get(name)) for name in TIMED):
            raise CorruptError(f"{at} has no statistics")
        marked = record.get("throttled")
        if not isinstance(marked, list) or not all(isinstance(m, int) and 0 <= m < len(taken) for m in marked):
            raise CorruptError(f"{at} does not say which samples were throttled")


def _number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)


def _positive(x: Any) -> bool:
    return _number(x) and x > 0


def counted(record: Record) -> list[float]:
    """The samples of a record that its statistics are of, ms."""
    taken: list[float] = record["samples_ms"]
    kept = [t for k, t in enumerate(taken) if k not in set(record["throttled"])]
    return kept or taken


def measured(whole: Document) -> list[Record]:
    """The records that have a time."""
    return [r for r in whole["results"] if "skipped" not in r and "failed" not in r]


def key(record: Record) -> tuple[str, str, str, str]:
    """What two runs of the same thing share."""
    return record["case"], _sorted(record["params"]), record["dtype"], record["backend"]


def identity(case: Case) -> tuple[str, str, str]:
    """The key of a case's records, without the backend."""
    return case.operation, _sorted(case.params), case.dtype


def _sorted(params: Mapping[str, Any]) -> str:
    return json.dumps(params, sort_keys=True)
