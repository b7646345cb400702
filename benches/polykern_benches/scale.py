"""What runs of several processes take, predicted: `python -m polykern_benches.scale`.

A run is the work of its slowest rank and what it waits for on the wire:

    seconds = work of the slowest rank x seconds of a unit + calls x latency + bytes / bandwidth

Seconds of a unit are measured on a smaller run of the same kind; the work of the slowest rank is counted from the
plan that the ranks follow. Without --table the prediction is held against runs of 1, 2 and 3 processes on this
machine, in seconds of a processor, in which nothing waits. How much processes that share its caches and cores slow
each other is measured too: on as many smaller runs side by side that have nothing to do with each other.
"""

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polykern.capturing import capture
from polykern.clustering.space import Packed
from polykern.clustering.spanning import minimum_spanning_tree
from polykern.maps.compute import Recipe, compute
from polykern.plane import Grid, Plane
from polykern.ranks import ranks
from polykern.tail import Tail
from polykern_benches._harness import codes
from polykern_benches._together import said

SIZES = {
    "capture": 49_152,
    "map": 1536,
    "neighbours": 36_000,
    "boruvka": 36_000,
}  # rows, pixels a side, codes, codes
FIRST = {
    "capture": 256,
    "map": 130,
    "neighbours": 1200,
    "boruvka": 1200,
}  # sizes of what is run to compile and load
ITEM, K, BAND, WORDS = 256, 15, 128, 32
LISTED, GROUPS = 4, 40  # neighbours behind a tree, and groups of its codes
SMALLER, REPEATS = 2, 3  # times is what the rates are measured on; runs of everything


@dataclass(frozen=True, slots=True)
class Link:
    """What joins ranks: seconds before a message arrives, bytes a second."""

    latency: float
    bandwidth: float


@dataclass(frozen=True, slots=True)
class Load:
    """What the slowest rank does.

    work    units that it works on: rows, pixels, pairs
    apart   units that only one rank works on, or each of them in full
    calls   in which all ranks meet
    wire    bytes that reach it
    memory  bytes that it holds, the model aside
    """

    work: float
    apart: float
    calls: float
    wire: float
    memory: float

    def seconds(self, unit: float, alone: float, link: Link) -> float:
        """Of the run; unit and alone: seconds of a unit of `work` and of `apart`."""
        return self.work * unit + self.apart * alone + self.calls * link.latency + self.wire / link.bandwidth


def captured(rows: int, shard: int, size: int, row_bytes: int = 512) -> Load:
    """A capture of shards of so many rows: every rank reads all rows, and runs its shards."""
    shards = math.ceil(rows / shard)
    return Load(min(rows, math.ceil(shards / size) * shard), rows, 3, 0, 2.25 * shard * row_bytes)


def mapped(side: int, size: int, band: int = BAND, fields: int = 1) -> Load:
    """A map of side x side pixels in bands of rows: every rank its bands; the first finishes the whole map."""
    bands = math.ceil(side / band)
    memory = band * side * (8 * fields + 28 + max(4 * fields + 16, 96))  # of a band, as a map's plan counts it
    return Load(math.ceil(bands / size) * band * side, side**2, 3, 0, memory)


def neighbours(n: int, row_bytes: int, size: int, k: int = K) -> Load:
    """The k nearest of n codes: pairs are dealt out, lists of all ranks are merged, every rank holds all codes."""
    wire = 0 if size == 1 else 2 * 8 * n * k  # distance and index in 64 bits: lists of its rows, then merged ones
    calls = 4 * size + 10 if size > 1 else 0  # parts have shapes that are told first; bounds are agreed on
    return Load(n * n / 2 / size, n, calls, wire, n * (row_bytes + 36 * k))


def boruvka(n: int, row_bytes: int, size: int, k: int = K, passes: float = 0.9) -> Load:
    """A spanning tree behind them: row searches are dealt out; of every component a key and a count travel."""
    rounds = math.ceil(math.log2(max(n, 2)))
    wire = 0 if size == 1 else 2 * 2 * n * 8 * 2  # components halve at least; an all-reduce passes twice
    return Load(
        passes * n * n / size, n * rounds, 3 * rounds if size > 1 else 0, wire, n * (row_bytes + 12 * k + 40)
    )


# --- small runs on this machine --------------------------------------------------------------------


def _prepared(kind: str, n: int, out: Path) -> Callable[[], object]:
    """A run of some size, in as many processes as there are, up to where it is measured from."""
    torch.manual_seed(0)
    if kind == "neighbours":
        return partial(Packed(codes(n, WORDS, device="cpu"), at=ranks()).nearest, K)
    if kind == "boruvka":
        space = Packed(_grouped(n), spare=0, at=ranks())  # rounds by all distances, as on devices
        near, who = space.nearest(LISTED)
        return partial(minimum_spanning_tree, space, near, who, near[:, -1].contiguous(), at=ranks())
    if kind == "capture":
        model = nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU()).eval()
        data = list(torch.randn(n, 256, generator=torch.Generator().manual_seed(1)).split(ITEM))
        return partial(capture, model, data, out / f"{n}.codes", shard_bytes=ITEM * (256 + 8) * 2 - 1)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 4))
    tail = Tail(model.eval(), torch.zeros(1, 64))
    plane = Plane.through(torch.randn(3, 64, generator=torch.Generator().manual_seed(2)))
    recipe = Recipe(tail, Grid(plane, plane.window(), n), 2.0, engine="float32")
    return partial(compute, recipe, out / f"{n}.map")


def _grouped(n: int) -> Tensor:
    """Codes in groups, one bit in 32 flipped: rows have to be searched before their groups are one."""
    flips = torch.stack([codes(n, WORDS, device="cpu", seed=seed) for seed in range(1, 6)])
    every = flips[0] & flips[1] & flips[2] & flips[3] & flips[4]
    return codes(GROUPS, WORDS, device="cpu")[torch.arange(n) % GROUPS] ^ every


def _spent(kind: str, n: int, out: Path) -> float:
    """Seconds of a processor that this process spends on a run of some size, after a small one."""
    if ranks().size == 1:  # with others beside it
        out = out / str(os.getpid())
        out.mkdir()
    _prepared(kind, FIRST[kind], out)()
    run = _prepared(kind, n, out)
    ranks().meet()
    before = time.process_time()
    run()
    return time.process_time() - before


def _load(kind: str, n: int, size: int) -> Load:
    if kind == "neighbours":
        return neighbours(n, 4 * WORDS, size)
    if kind == "boruvka":
        return boruvka(n, 4 * WORDS, size)
    return captured(n, 2 * ITEM, size) if kind == "capture" else mapped(n, size)


def _measured(kind: str, n: int, size: int, *, strangers: bool = False) -> float:
    """Seconds of the slowest of so many processes, the median of some runs; strangers run each the whole."""
    spent = []
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as folder:
            told = ["--inside", kind, folder, str(n)]
            spent.append(max(float(each) for each in said("scale", told, size, strangers=strangers)))
    return statistics.median(spent)


def compared(kind: str, most: int = 3) -> Iterator[dict[str, Any]]:
    """Predicted and measured seconds of the slowest rank of 1 ... `most` processes."""
    n = SIZES[kind]
    small = n // SMALLER
    once = _measured(kind, small, 1)
    crowd = {k: _measured(kind, small, k, strangers=True) / once for k in range(2, most + 1)} | {1: 1.0}
    pair = _measured(kind, small, 2) / crowd[2]
    one, two = _load(kind, small, 1), _load(kind, small, 2)
    # two runs of one size differ in `work` alone, which parts the rates of `work` and of `apart`
    unit = max(0.0, (once - pair) / (one.work - two.work))
    alone = max(0.0, (once - one.work * unit) / one.apart)
    for size in range(1, most + 1):
        load = _load(kind, n, size)
        predicted = (load.work * unit + load.apart * alone) * crowd[size]
        measured = _measured(kind, n, size)
        yield {"run": kind, "n": n, "ranks": size, "predicted_s": predicted, "measured_s": measured}


def table(
    n: int, row_bytes: int, pairs: float, rows: float, reading: float, pixels: float, link: Link
) -> list[dict[str, Any]]:
    """What 1 ... 1,000 ranks would take for n codes and a map of 65,536 x 65,536 pixels, its end aside.

    pairs, rows, pixels  that one rank does a second
    reading              rows that it reads a second without running them
    """
    found = []
    for size in (1, 8, 64, 1000):
        shard = (128 << 20) // row_bytes
        loads = {
            "capture": (captured(n, shard, size, row_bytes), 1 / rows),
            "neighbours": (neighbours(n, row_bytes, size), 1 / pairs),
            "boruvka": (boruvka(n, row_bytes, size), 1 / pairs),
            "map": (mapped(65_536, size), 1 / pixels),
        }
        for kind, (load, unit) in loads.items():
            seconds = load.seconds(unit, 1 / reading if kind == "capture" else 0.0, link)
            found.append({"run": kind, "ranks": size, "seconds": seconds, "wire": load.wire, "memory": load.memory})
    return found


def main() -> None:
    """Print one JSON object a line."""
    parser = argparse.ArgumentParser(description="Predicted times of several processes.")
    parser.add_argument("--inside", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--runs", nargs="+", choices=list(SIZES), default=list(SIZES), help="that are measured")
    parser.add_argument("--table", action="store_true", help="predict large runs instead of measuring small ones")
    parser.add_argument("--codes", type=int, default=10**9)
    parser.add_argument("--bits", type=int, default=3072)
    parser.add_argument("--pairs", type=float, default=1e9, help="of codes that a rank compares a second")
    parser.add_argument("--rows", type=float, default=1e5, help="that a rank captures a second")
    parser.add_argument("--reading", type=float, default=1e6, help="rows that a rank reads a second")
    parser.add_argument("--pixels", type=float, default=1e6, help="that a rank evaluates a second")
    parser.add_argument("--latency", type=float, default=3e-5, help="of a call, in seconds")
    parser.add_argument("--bandwidth", type=float, default=2.5e10, help="of a rank, in bytes a second")
    asked = parser.parse_args()
    if asked.inside:
        kind, folder, n = asked.inside
        print(json.dumps(_spent(kind, int(n), Path(folder))))
        return
    found: Iterable[dict[str, Any]]
    if asked.table:
        link = Link(asked.latency, asked.bandwidth)
        found = table(asked.codes, asked.bits // 8, asked.pairs, asked.rows, asked.reading, asked.pixels, link)
    else:
        found = (row for kind in asked.runs for row in compared(kind))
    for row in found:
        print(json.dumps(row if asked.table else {**row, "load": os.getloadavg()[0]}), flush=True)


if __name__ == "__main__":
    main()
