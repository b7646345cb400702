"""What a CUDA device has to reach: one table, and a line for each row that says met or not met.

    python -m polykern_benches.targets [--only ROW] [--json FILE] [--budget SECONDS] [--large] [--small]
                                       [--device cuda|cpu]

Results are judged before times. A row that is wrong, fails or finds no time left says so, and the next one runs.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from polykern_benches import (
    _memory,
    bench_covariance,
    bench_hdbscan,
    bench_heatmap,
    bench_maps,
    bench_neighbours,
    bench_pack,
)
from polykern_benches._harness import Setting
from polykern_benches._jobs import Found, Job, done
from polykern_benches.ceilings import Survey, survey


@dataclass(frozen=True, slots=True)
class Target:
    """One row.

    name     of the row
    limit    seconds at most, or the least share of the ceiling
    ceiling  of `Ceilings`, for a share; "" for seconds
    judged   how the result is known to be right
    job      the case that is run
    large    runs only when it is asked for
    """

    name: str
    limit: float
    ceiling: str
    judged: str
    job: Job
    large: bool = False

    @property
    def asked(self) -> str:
        """The target in words."""
        return f">= {self.limit:.0%} of {self.ceiling}" if self.ceiling else f"<= {self.limit:g} s"


Run = Callable[[Job, Setting, str], Found]
PAIRS, AS_CPU = bench_neighbours.pairs, "64 rows as on the CPU"
TREE = "tree of 5,000 rows as scipy's, the planted clusters"
TARGETS = (
    Target("pairs b1", 0.70, "b1_mma", AS_CPU, Job(PAIRS, way="b1", kernel="minima")),
    Target("pairs popcount", 0.80, "popcount", AS_CPU, Job(PAIRS, way="triton", kernel="minima")),
    Target("pack bf16", 0.85, "copy", "8 rows as the reference", Job(bench_pack.layer)),
    # a product has both halves of a covariance
    Target("covariance", 0.75, "bf16_gemm", "a block in float64", Job(bench_covariance.stream, charged=2)),
    Target("map digits", 0.1, "", "no wrong bit in the audit", Job(bench_heatmap.whole, stage="map")),
    Target("nearest 1e6", 1.0, "", AS_CPU, Job(bench_neighbours.million)),
    Target("hdbscan 1e6", 6.0, "", TREE, Job(bench_hdbscan.million)),
    Target(
        "map googlenet", 12.0, "", "the audit, wrong bits and distances", Job(bench_maps.googlenet, stage="map")
    ),
    Target("hdbscan 1e7", 300.0, "", TREE, Job(bench_hdbscan.ten_millions), large=True),
)


@dataclass(slots=True)
class Row:
    """What became of a target: met or not, or why there is no time."""

    name: str
    asked: str
    judged: str
    met: bool | None = None
    seconds: float | None = None
    share: float | None = None
    why: str = ""
    told: dict[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        """One line to read."""
        state = {True: "met", False: "NOT met", None: "no time"}[self.met]
        took = "" if self.seconds is None else f"{self.seconds:10.4f} s"
        share = "" if self.share is None else f"{self.share:7.1%}"
        return f"{self.name:16}{self.asked:26}{state:9}{took:>13}{share:>9}  {self.why}".rstrip()


def judge(target: Target, setting: Setting, ceilings: Survey, run: Run = done) -> Row:
    """Runs a row; what goes wrong in it is told, never raised."""
    row = Row(target.name, target.asked, target.judged)
    if _memory.lost(setting.device):
        row.why = _memory.LOST
        return row
    try:
        found = run(target.job, setting, target.ceiling)
    except Exception as problem:  # of any library: the next row still has its turn
        row.why = f"{type(problem).__name__}: {str(problem).splitlines()[0] if str(problem) else ''}"
        return row
    row.seconds, row.told = found.seconds, found.told
    if not target.ceiling:
        row.met = found.seconds <= target.limit
    elif target.ceiling in ceilings.rates:
        row.share = found.work / found.seconds / ceilings.rates[target.ceiling]
        row.met = row.share >= target.limit
    else:
        row.why = f"no ceiling: {ceilings.missing.get(target.ceiling, 'not measured')}"
    return row


def main(argv: Sequence[str] | None = None) -> int:
    """Print the lines; with --json write the rows after each of them. 1 when a row is not met."""
    parser = argparse.ArgumentParser(description="What a CUDA device has to reach.")
    parser.add_argument("--only", action="append", metavar="ROW", help="this row; repeatable")
    parser.add_argument("--json", type=Path, help="write the rows here, after each of them")
    parser.add_argument("--budget", type=float, default=200.0, help="seconds after which no row is begun")
    parser.add_argument("--large", action="store_true", help="also what takes minutes")
    parser.add_argument("--small", action="store_true", help="toy sizes: does it run")
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    given = parser.parse_args(argv)
    start, setting = time.perf_counter(), Setting(given.device, given.small)
    if unknown := set(given.only or ()) - {target.name for target in TARGETS}:
        parser.error(f"no row {', '.join(sorted(unknown))}; there are {', '.join(t.name for t in TARGETS)}")
    wanted = [t for t in TARGETS if (t.name in given.only if given.only else given.large or not t.large)]
    ceilings = survey(given.device, given.small, {target.ceiling for target in wanted if target.ceiling})
    rows = []
    for target in wanted:
        if time.perf_counter() - start > given.budget:
            rows.append(Row(target.name, target.asked, target.judged, why="no time left"))
        else:
            rows.append(judge(target, setting, ceilings))
        print(rows[-1].line(), flush=True)
        if given.json:
            given.json.parent.mkdir(parents=True, exist_ok=True)
            report = {
                "schema": "polykern-targets/1",
                "device": given.device,
                "small": given.small,
                "torch": torch.__version__,
                "ceilings": asdict(ceilings),
                "rows": [asdict(row) for row in rows],
            }
            given.json.write_text(json.dumps(report, indent=1, default=str) + "\n")
    return int(any(row.met is not True for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
