"""How well ranks share the search for nearest codes: `python -m polykern_benches.ranks`.

    efficiency = time of one process / (ranks x time of the slowest rank)

once in seconds of a processor, which other programs on the machine do not change much, and once in seconds of the
clock, which mean something on idle cores only. Every rank has one thread and, where there are enough, a core of its
own. No time is taken of ranks that find other bytes than one process.
"""

import argparse
import json
import os
import statistics
import time
from typing import Any

from polykern.clustering.space import Packed
from polykern.ranks import ranks
from polykern.store.sealed import digest
from polykern_benches._harness import codes
from polykern_benches._together import said

SCHEMA = "polykern-ranks/1"
K = 15


def main() -> None:
    """Start the processes and print what they took; inside of them, search."""
    parser = argparse.ArgumentParser(description="Nearest codes among themselves, shared by ranks.")
    parser.add_argument("--codes", type=int, default=24_000)
    parser.add_argument("--bits", type=int, default=3072)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    if os.environ.get("POLYKERN_BENCH_RANK"):
        print(json.dumps(_searched(asked.codes, asked.bits, asked.repeats)))
        return
    (alone,), several = _started(asked, 1), _started(asked, asked.ranks)
    if any(one["found"] != alone["found"] for one in several):
        raise SystemExit("the ranks find other neighbours than one process: no time was taken")
    print(json.dumps(_compared(asked, alone, several), indent=1))


def _searched(n: int, bits: int, repeats: int) -> dict[str, Any]:
    """Seconds of every repeat, and a digest of what was found."""
    at, words = ranks(), codes(n, bits // 32, device="cpu")
    Packed(words[:1200], at=at).nearest(K)  # what is compiled or loaded on first use
    spent, waited, found = [], [], ""
    for _ in range(repeats):
        at.meet()
        clock, processor = time.perf_counter(), time.process_time()
        near, who = Packed(words, at=at).nearest(K)
        spent.append(time.process_time() - processor)
        waited.append(time.perf_counter() - clock)
        found = digest(near.numpy().tobytes() + who.numpy().tobytes())
    return {"cpu_s": spent, "wall_s": waited, "found": found}


def _started(asked: argparse.Namespace, size: int) -> list[dict[str, Any]]:
    """What each of `size` processes says."""
    words = [f"--{name}={getattr(asked, name)}" for name in ("codes", "bits", "repeats")]
    return said("ranks", words, size, {"POLYKERN_BENCH_RANK": "1"})


def _compared(asked: argparse.Namespace, alone: dict[str, Any], several: list[dict[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {
        "schema": SCHEMA, "codes": asked.codes, "bits": asked.bits, "k": K, "ranks": asked.ranks,
        "load": os.getloadavg(), "cores": len(os.sched_getaffinity(0)),
    }  # fmt: skip
    for name in ("cpu_s", "wall_s"):
        one = statistics.median(alone[name])
        slowest = statistics.median(max(turn) for turn in zip(*(rank[name] for rank in several), strict=True))
        out[name] = {"alone": alone[name], "ranks": [rank[name] for rank in several]}
        out["efficiency_" + name.removesuffix("_s")] = one / (asked.ranks * slowest)
    return out


if __name__ == "__main__":
    main()
