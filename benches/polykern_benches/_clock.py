"""Times of repeated runs, each on a cold cache, in the order they were taken."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from polykern_benches._board import Board, Reading
from polykern_benches._harness import Setting

FLUSH_BYTES = 256 << 20  # larger than any last-level cache we run on
LEAST, ENOUGH = 5, 10.0  # runs at least; seconds after which these are enough
SLOWED_AGAIN = 2  # runs for every one that counts, at most, while the board slows some of them down


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: its seconds, and how the board ran meanwhile, where there is one that says."""

    seconds: float
    reading: Reading | None = None

    @property
    def throttled(self) -> bool:
        """Whether the board ran slower than it could."""
        return self.reading is not None and bool(self.reading.throttled)


def samples(fn: Callable[[], object], setting: Setting, most: int, board: Board | None = None) -> list[Sample]:
    """Runs until `most` count, or `LEAST` took `ENOUGH` seconds; a throttled run is kept and does not count."""
    most = setting.pick(most, min(most, 3))
    scrub = torch.empty(setting.pick(FLUSH_BYTES, 1 << 20), dtype=torch.uint8, device=setting.device)
    clock = _on_the_cpu if setting.device == "cpu" else _on_the_gpu
    taken: list[Sample] = []
    while len(taken) < SLOWED_AGAIN * most:
        counted = [s.seconds for s in taken if not s.throttled]
        if len(counted) == most or (len(taken) >= LEAST and sum(s.seconds for s in taken) > ENOUGH):
            break
        scrub.fill_(len(taken))
        taken.append(clock(fn, board))
    return taken


def _on_the_cpu(fn: Callable[[], object], board: Board | None) -> Sample:
    start = time.perf_counter()
    fn()
    return Sample(time.perf_counter() - start)


def _on_the_gpu(fn: Callable[[], object], board: Board | None) -> Sample:
    """By events of the stream. The scrubbing still runs when `fn` is launched, so that launches do not count."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    fn()
    end.record()
    reading = None if board is None else board.read()  # while it runs
    torch.cuda.synchronize()
    return Sample(float(begin.elapsed_time(end)) / 1e3, reading)


def statistics_of(taken: Sequence[Sample]) -> dict[str, Any]:
    """The numbers of a record: all samples, which of them were throttled, and the statistics of the others.

    Where every run was throttled the statistics are of all.
    """
    throttled = [k for k, sample in enumerate(taken) if sample.throttled]
    counted = [s.seconds for s in taken if not s.throttled] or [s.seconds for s in taken]
    times = 1e3 * np.asarray(counted)
    low, high = np.quantile(times, (0.2, 0.8))
    spread = statistics.stdev(times.tolist()) if len(times) > 1 else 0.0
    return {
        "samples_ms": [1e3 * sample.seconds for sample in taken],
        "throttled": throttled,
        "samples": len(times),
        "median_ms": float(np.median(times)),
        "p20_ms": float(low),
        "p80_ms": float(high),
        "cv": spread / float(times.mean()),
    }
