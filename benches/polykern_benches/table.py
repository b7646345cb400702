"""README's tables, from the runs that are committed: `python -m polykern_benches.table`.

A table stands between two comments; the first names files of benches/results and patterns of cases:

    <!-- bench cpu.json: neighbours.* hdbscan.* -->
    ...
    <!-- /bench -->

Everything between them is written by this module, and a test compares.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from polykern.amounts import shown
from polykern.errors import CorruptError, UsageError
from polykern_benches._document import Document, key, measured, read
from polykern_benches._shown import sizes, time

ROOT = Path(__file__).parents[2]
MARKED = re.compile(r"(<!-- bench ([^:\n]+): ([^\n]+?) -->\n).*?(<!-- /bench -->)", re.DOTALL)
HEAD = "| case | sizes | median | share of the ceiling | memory added | beside it |\n|---|---|---|---|---|---|\n"
Record = dict[str, Any]


def rendered(text: str, results: Path) -> str:
    """The text with every table in it made again.

    text     of a page; without marks it comes back as it is
    results  folder of the runs

    Files that are not of this format are left out, with a line on stderr. Raises UsageError where a mark names a
    file that is not there and is no pattern.
    """

    def made(found: re.Match[str]) -> str:
        begin, names, globs, end = found.groups()
        runs = [(path, whole) for path in _files(results, names.split()) if (whole := _opened(path)) is not None]
        return begin + "".join(table(path, whole, globs.split()) for path, whole in runs) + end

    return MARKED.sub(made, text)


def table(path: Path, whole: Document, globs: Sequence[str]) -> str:
    """One run as Markdown: where it was made, and a line for every case, ours first and the peers beside it."""
    rows: dict[tuple[str, ...], list[Record]] = {}
    for record in measured(whole):
        if any(fnmatchcase(record["case"], pattern) for pattern in globs):
            rows.setdefault(key(record)[:3], []).append(record)
    lines = [line for records in rows.values() for line in _lines(records)]
    if not lines:
        return ""
    return f"\n{_about(path, whole)}\n\n{HEAD}{''.join(lines)}\n"


def _files(results: Path, names: Sequence[str]) -> list[Path]:
    found = []
    for name in names:
        matched = sorted(results.glob(name))
        if not matched and not set(name) & set("*?["):
            raise UsageError(f"there is no {results / name}", fix="polykern bench --out FILE writes one")
        found += matched
    return found


def _opened(path: Path) -> Document | None:
    """A run, None where the file is another one."""
    try:
        return read(path)
    except CorruptError as reason:
        sys.stderr.write(f"left out: {reason.what}\n")
        return None


def _about(path: Path, whole: Document) -> str:
    env = whole["env"]
    gpu = (env.get("gpu") or {}).get("name")
    threads = env.get("threads")
    cpu = f"{env.get('cpu')}, {threads} thread{'' if threads == 1 else 's'}"
    commit = str(whole.get("git") or "")[:10]
    told = [gpu if whole["device"] == "cuda" else cpu, f"torch {env.get('torch')}", whole["created"][:10]]
    told += [f"commit {commit}"] if commit else []
    told += ["toy sizes, the numbers mean nothing"] if whole["small"] else []
    return f"{', '.join(map(str, told))} ([{path.name}](benches/results/{path.name})):"


def _lines(records: Sequence[Record]) -> list[str]:
    """A line for each of our ways; the peers stand in that of the fastest."""
    ours = [r for r in records if not r["peer"]]
    peers = [r for r in records if r["peer"]]
    best = min(ours, key=lambda r: float(r["median_ms"]), default=None)
    lines = []
    for record in ours or peers:
        beside = "; ".join(_beside(peer, best) for peer in peers) if record is best and best is not None else ""
        line, added = record.get("roofline"), record.get("added_bytes")
        cells = (
            f"`{record['case']}` {record['dtype']} {record['backend']}",
            sizes(record["params"]),
            time(record["median_ms"]),
            "" if line is None else f"{line['share']:.0%} of {line['bound']}",
            "" if added is None else shown(added),
            beside,
        )
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n")
    return lines


def _beside(peer: Record, best: Record) -> str:
    return f"{peer['backend']} {time(peer['median_ms'])}, ratio {peer['median_ms'] / best['median_ms']:.1f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the tables of a page again; with --check only say whether they are as they should be."""
    parser = argparse.ArgumentParser(description="README's tables from benches/results.")
    parser.add_argument("page", nargs="?", type=Path, default=ROOT / "README.md")
    parser.add_argument("--results", type=Path, default=ROOT / "benches" / "results", help="folder of the runs")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a table is another")
    given = parser.parse_args(argv)
    text = given.page.read_text(encoding="utf-8")
    try:
        made = rendered(text, given.results)
    except UsageError as reason:
        parser.error(str(reason))
    if given.check:
        return int(made != text)
    given.page.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
