"""A case, way by way: the gate first, then memory, then time."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from polykern_benches import _memory
from polykern_benches._board import Board, summary
from polykern_benches._clock import Sample, samples, statistics_of
from polykern_benches._harness import Case, Measured, Setting, Trial
from polykern_benches._work import Rates, amounts, roofline
from polykern_kernels._dispatch import Impl

Record = dict[str, Any]
ON = {"cpu": "cpu", "triton": "cuda", "b1": "cuda", "dot": "cuda"}  # the device of a way; the others run on any
OURS, PEER = False, True


@dataclass(frozen=True, slots=True)
class _Run:
    """One way of a case that was set up."""

    case: Case
    trial: Trial
    way: Impl
    peer: bool
    setting: Setting
    board: Board | None

    def once(self) -> Any:
        """The case, carried out."""
        if self.peer and self.trial.beside is not None:
            return self.trial.beside(self.way.run)
        return self.trial.run(self.way.name)

    def held_against(self) -> str:
        """The way whose unit counts the work: a peer is held against the one of ours that it stands beside."""
        ours = (w.name for w in self.case.ways if _meant(w, self.setting) and not w.objection(*self.trial.inputs))
        return next(ours, self.way.name) if self.peer else self.way.name


def records(case: Case, setting: Setting, board: Board | None = None) -> Iterator[Record]:
    """A record for every way that is made for this device: measured, skipped or failed, with the reason.

    What the case holds of memory is let go of behind the last. On a device that is lost every way has failed.
    """
    ways = [(way, OURS) for way in case.ways if _meant(way, setting)] + [(way, PEER) for way in case.peers]
    if _memory.lost(setting.device):
        yield from ({**_named(case, way, setting, peer), "failed": _memory.LOST} for way, peer in ways)
        return
    free = _memory.available(setting.device)
    if free is not None and case.needs > free:
        gib = case.needs / 2**30, free / 2**30
        reason = f"needs {gib[0]:.3g} GiB of memory, {gib[1]:.3g} GiB are free"
        yield from ({**_named(case, way, setting, peer), "skipped": reason} for way, peer in ways)
        return
    try:
        trial = case.setup()
    except Exception as error:
        yield from ({**_named(case, way, setting, peer), **_fallen(error)} for way, peer in ways)
        return
    try:
        for way, peer in ways:
            yield {**_named(case, way, setting, peer), **_tried(_Run(case, trial, way, peer, setting, board))}
            _memory.release(setting.device)
    finally:
        trial.close()
        del trial
        _memory.release(setting.device)


def ways(case: Case, setting: Setting) -> tuple[list[str], list[str]]:
    """The names of our ways that are made for this device, and of the peers'."""
    return [way.name for way in case.ways if _meant(way, setting)], [way.name for way in case.peers]


def _meant(way: Impl, setting: Setting) -> bool:
    """The reference is no competitor, and Triton's interpreter is for tests."""
    return way.name != "reference" and ON.get(way.name, setting.device) == setting.device


def _named(case: Case, way: Impl, setting: Setting, peer: bool) -> Record:
    return {
        "case": case.operation,
        "params": case.params,
        "dtype": case.dtype,
        "backend": way.name,
        "peer": peer,
        "device": setting.device,
    }


def _fallen(error: Exception) -> Record:
    """A record of what ended a way: memory is a reason to skip it, anything else a failure."""
    said = (str(error) or type(error).__name__).splitlines()[0]
    full = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if full or "DefaultCPUAllocator" in said:
        return {"skipped": f"out of memory: {said}"}
    return {"failed": f"{type(error).__name__}: {said}"}


def _tried(run: _Run) -> Record:
    """Numbers, or why there are none."""
    if _memory.lost(run.setting.device):
        return {"failed": _memory.LOST}
    try:
        reason = run.way.objection(*run.trial.inputs)
        return _measured(run) if reason is None else {"skipped": reason}
    except Exception as error:
        return _fallen(error)


def _measured(run: _Run) -> Record:
    first = run.once()
    own = first if isinstance(first, Measured) else None
    if not run.trial.holds(first if own is None else own.result):
        return {"failed": "wrong answer, so no time"}
    del first  # the memory of a result
    found = _here(run) if own is None else _alone(own, run)
    cost = run.case.cost
    return {**found, "work": None if cost is None else amounts(cost, run.held_against(), run.case.precision)}


def _here(run: _Run) -> Record:
    """In this process: a run for the memory, which also warms up, then the timed ones."""
    peak = _memory.Peak(run.setting.device)
    run.once()
    added = peak.added()
    taken = samples(run.once, run.setting, run.case.samples, run.board)
    told = summary([s.reading for s in taken if s.reading is not None])
    return {**statistics_of(taken), "added_bytes": added, "gpu": told, "told": {}}


def _alone(first: Measured, run: _Run) -> Record:
    """In processes of their own, which measured themselves; the first counts, because each warmed up."""
    runs = [first, *(run.once() for _ in range(run.setting.pick(run.case.samples, 1) - 1))]
    added = max((r.added for r in runs if r.added is not None), default=None)
    taken = [Sample(r.seconds) for r in runs]
    return {**statistics_of(taken), "added_bytes": added, "gpu": None, "told": runs[-1].told}


def weigh(record: Record, ceilings: Rates) -> float:
    """Gives a measured record its roofline; returns its share, 0 where there is none."""
    if "median_ms" not in record:
        return 0.0
    work = record["work"]
    record["roofline"] = found = None if work is None else roofline(work, record["median_ms"] / 1e3, ceilings)
    return 0.0 if found is None else float(found["share"])
