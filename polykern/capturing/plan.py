"""What a capture will take before it is begun: rows, disk, memory, time.

One pass is run and measured. Rows are what its documents gave for their bytes, carried on to the whole corpus;
memory is an estimate of the largest resident set: the process as it is, a shard that is put together, and a pass.
"""

import math
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from polykern.capturing.cutting import row_bytes
from polykern.capturing.unit import Source, Unit
from polykern.errors import ResourceError, UsageError
from polykern.launch import processes

COPIES = 2.25  # of a shard: its parts, the whole, and what is on its way to the disk
LIBRARIES = 48 << 20  # bytes that libraries take while the first passes are run
MARGIN = 2.0  # of a pass: what the allocator and the libraries keep beside tensors


@dataclass(frozen=True, slots=True)
class Plan:
    """A capture that has not been made.

    rows       estimated, None where nobody knows
    ranks      processes that divide them
    share      rows of the one that has most, by whole shards; None where nobody knows
    bits       of a code
    row        bytes of a row on disk
    seen       bytes for a row of what a person sees
    disk       bytes of the store, None where nobody knows
    process    bytes resident now, the model among them
    shard      bytes of a shard while it is put together
    batch      what is run in one pass: tokens, pictures
    each       bytes of a pass for each of them
    rate       rows a second
    """

    rows: int | None
    ranks: int
    share: int | None
    bits: int
    row: int
    seen: int
    disk: int | None
    process: int
    shard: int
    batch: int
    each: int
    rate: float

    @property
    def seconds(self) -> float | None:
        """Of the process that has most to run; None where nobody knows."""
        return None if self.share is None or not self.rate else self.share / self.rate

    @property
    def memory(self) -> int:
        """Bytes of the host's memory."""
        return self.process + self.shard + self.batch * self.each

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "memory": self.memory, "seconds": self.seconds}


def plan(source: Source, shard_bytes: int, process: int, *, measured: bool = True) -> Plan:
    """What the capture of a source that has been probed will take; writes nothing.

    shard_bytes  of a shard
    process      bytes of this process that are resident
    measured     read the beginning of the data and run a pass of it, for rows and time; else only memory is known

    Raises UsageError when there is nothing to capture.
    """
    largest, peak = source.largest(), Peak()
    with peak:
        source.run([largest])
    each = math.ceil(MARGIN * peak.bytes / source.load([largest]))
    row, rows, rate, seen = row_bytes(source), source.most(), 0.0, -(-largest.bytes // max(1, largest.rows))
    if measured:
        sample = list(_sample(source))
        count = sum(u.rows for u in sample)
        if not count:
            raise UsageError(f"there are no {source.noun} to keep", why="the data are empty, or all is left out")
        before = time.perf_counter()
        source.run(sample)
        rate = count / (time.perf_counter() - before)
        rows, seen = source.expected(sample), -(-sum(u.bytes for u in sample) // count)
    disk = None if rows is None else rows * (row + seen)
    ranks, whole = processes(), max(1, shard_bytes // (row + seen))  # rows of a shard
    share = None if rows is None else min(rows, -(-rows // (whole * ranks)) * whole)
    held = shard_bytes + largest.rows * row + largest.bytes
    shard = int(COPIES * (held if disk is None else min(held, disk)))
    return Plan(
        rows,
        ranks,
        share,
        source.watch.layout.bits,
        row,
        seen,
        disk,
        process + LIBRARIES,
        shard,
        source.batch,
        each,
        rate,
    )


def fitted(found: Plan, budget: int, least: int, room: int | None = None) -> int:
    """The largest batch, up to that of the plan, that a memory budget leaves room for.

    budget  bytes of the whole process
    least   the smallest batch there is: one sequence, one picture
    room    bytes that are free where passes are run; None: they are in the process

    Raises ResourceError with the amount that is needed when that is too much.
    """
    fixed = found.process + found.shard
    free = budget - fixed if room is None else min(room, budget - fixed + room)
    batch = min(found.batch, free // max(1, found.each))
    if batch >= min(least, found.batch):
        return batch
    smallest = least * found.each
    if room is not None and budget >= fixed:
        raise ResourceError(
            f"the smallest pass takes about {_mib(smallest)} of the device, {_mib(room)} are free",
            fix="a smaller --length, or another --device",
        )
    needed = fixed + (smallest if room is None else 0)
    parts = {"process and model": found.process, "a shard": found.shard, "the smallest pass": smallest}
    raise ResourceError(
        f"a memory budget of {_mib(budget)} is too small: about {_mib(needed)} are needed",
        why=", ".join(f"{what} {_mib(size)}" for what, size in parts.items()),
        fix=f"--memory-budget {_mib(needed).replace(' ', '')}, or a smaller --shard-size",
    )


class Peak(TorchDispatchMode):
    """Watches the tensors that are made; `bytes` is the most that were there at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self._now = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Carry out a torch call and count what it made."""
        given = {a.untyped_storage()._cdata for a in args if isinstance(a, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in given:  # else a view
                self._see(tensor)
        return out

    def _see(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._alive:
            return
        self._alive.add(key)
        self._now += storage.nbytes()
        self.bytes = max(self.bytes, self._now)
        weakref.finalize(storage, self._gone, key, storage.nbytes())

    def _gone(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self._now -= size


def _sample(source: Source) -> Iterator[Unit]:
    """The units of one full pass, or all there are."""
    load = 0
    for unit in islice(source.units(None), source.window):
        load += source.load([unit])
        if load > source.batch and load > source.load([unit]):
            return
        yield unit


def _mib(size: int) -> str:
    return f"{math.ceil(size / (1 << 20))} MiB"
