"""A store in the hands of many writers that fail, die and are damaged, against a model of it in memory.

The model is which store lies there, which of its shards were committed, and whether it was finished. After every
step what a reader sees is held against it: what was committed is read bit by bit, what was not is never seen.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

import tests.store.synthetic as made_up
from polykern.errors import CorruptError, MismatchError, ResourceError, UsageError
from polykern.layout import Layout
from polykern.store import Store, Writer, verify
from polykern.store.admission import CLEARED
from tests.store import growing
from tests.store.growing import SHARDS
from tests.store.test_damage import same_json
from tests.store.test_kills import Kill
from tests.store.test_kills import kill as kill
from tests.trust.faults import ERRNO, Fault, watched
from tests.trust.known import WHOLE, Known, committed_rows, found, undisturbed
from tests.trust.ledger import SCALE, scaled, trial

READ, KILLED = "R1 store: what is committed is read", "R1 killed: nothing torn is seen"
FAILED, RESUMED = "R8 disk: an error harms nothing", "R2 resumed: same bytes"
DAMAGED, DRIFTED = "R3 damage: found and named", "R4 another config: refused by name"
STORES, SHARD = st.integers(0, 1), st.integers(0, SHARDS - 1)
ORDERS = st.lists(SHARD, min_size=1, max_size=SHARDS, unique=True)
CALLS = st.integers(1, 60)


def _same(name: str, whole: bytes, changed: bytes) -> bool:
    """Whether a change of a JSON file is one of spelling alone."""
    return name.endswith(".json") and same_json(whole, changed)


class Machine(RuleBasedStateMachine):
    """The rules: what may happen to a store, in any order."""

    kill: Kill

    def __init__(self) -> None:
        super().__init__()
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self.path = self.folder / "a.codes"
        self.known = Known()
        self.writers: list[tuple[Writer, int]] = []  # with the store that each writes
        self.held: tuple[Store, Known] | None = None  # a reader that was opened some time ago

    def teardown(self) -> None:
        for writer, _ in self.writers:
            writer.close()
        if self.known.store is not None:
            self._ends_as_if_nothing_had_happened(self.known.store)
        shutil.rmtree(self.folder)

    # --- writers ------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.writers) < 3)
    @rule(store=STORES, shared=st.booleans())
    def opened(self, store: int, shared: bool) -> None:
        if any(not (shared and writer.shared) for writer, _ in self.writers):
            with trial(READ), pytest.raises(ResourceError, match="process"):
                Writer.open(self.path, growing.manifest(store), shared=shared)
        elif self.known.store != store and not self._is_fresh():
            self._is_refused(store, shared=shared)
        else:
            begun, self.held = (Known(store), None) if self._is_fresh() else (self.known, self.held)
            self.writers.append((Writer.open(self.path, growing.manifest(store), shared=shared), store))
            self.known = begun

    @precondition(lambda self: self.writers)
    @rule(which=st.integers(0, 9), shard=SHARD)
    def appended(self, which: int, shard: int) -> None:
        writer, store = self.writers[which % len(self.writers)]
        if writer.complete:
            with pytest.raises(UsageError, match="complete"):
                writer.write(**growing.shard(store, shard))
            return
        with trial(READ):
            assert growing.put(writer, store, shard) == (shard not in self.known.committed)
        self.known = replace(self.known, committed=self.known.committed | {shard})

    @precondition(lambda self: sum(writer.shared for writer, _ in self.writers) > 1)
    @rule(shard=SHARD)
    def claimed(self, shard: int) -> None:
        """By one: then by no other, until it is given back."""
        (first, _), (second, store) = self.writers[:2]
        if shard not in self.known.committed and not (first.complete or second.complete):
            with trial(READ):
                assert first.claim(shard)
                assert first.claim(shard)
                assert not second.claim(shard)
                self.closed(0)
                assert growing.put(second, store, shard)
            self.known = replace(self.known, committed=self.known.committed | {shard})

    @precondition(lambda self: self.writers)
    @rule(which=st.integers(0, 9))
    def closed(self, which: int) -> None:
        writer, _ = self.writers.pop(which % len(self.writers))
        writer.close()
        with pytest.raises(UsageError, match=r"ended|complete"):
            writer.write(**growing.shard(0, 0))

    @precondition(lambda self: self.writers)
    @rule()
    def ended(self) -> None:
        while self.writers:
            self.closed(0)

    @precondition(lambda self: all(writer.shared for writer, _ in self.writers))
    @rule(store=STORES, shards=ORDERS, shared=st.booleans())
    def grown(self, store: int, shards: list[int], shared: bool) -> None:
        """By a writer that comes and goes, while others may be at work."""
        before = Known(store) if self._is_fresh() else self.known
        self.held = None if self._is_fresh() else self.held
        assert before.store is not None
        with trial(READ):
            growing.grow(self.path, before.store, shards, shared=shared or bool(self.writers), finish=True)
        committed = before.committed | frozenset(shards)
        self.known = Known(before.store, committed, committed == WHOLE)

    @precondition(lambda self: self.writers)
    @rule(which=st.integers(0, 9))
    def finished(self, which: int) -> None:
        """By any of the writers, whoever made the shards."""
        writer, _ = self.writers[which % len(self.writers)]
        known = self.known.committed
        if known == WHOLE:
            with trial(READ):
                writer.finish()
            self.known = replace(self.known, complete=True)
        elif max(known, default=-1) >= self.known.prefix:
            with trial(READ), pytest.raises(CorruptError, match=f"{self.known.prefix:06d}"):
                writer.finish()

    @precondition(lambda self: not self.writers)
    @rule(store=STORES)
    def overwritten(self, store: int) -> None:
        self.writers.append((Writer.open(self.path, growing.manifest(store), overwrite=True), store))
        self.known, self.held = Known(store), None

    # --- misfortunes --------------------------------------------------------------------------------------

    @precondition(lambda self: not self.writers)
    @rule(store=STORES, shards=ORDERS, at=CALLS, torn=st.booleans(), how=st.sampled_from(["on", "shared", "over"]))
    def killed(self, store: int, shards: list[int], at: int, torn: bool, how: str) -> None:
        store = self._target(store, how)
        grow = {
            "store": store,
            "shards": shards,
            "overwrite": how == "over",
            "shared": how == "shared",
            "finish": True,
        }
        fresh = how == "over" or self._is_fresh()
        with trial(KILLED):
            came = self.kill(self.path, grow=grow, call=at, torn=torn)
            assert came["ended"] in (0, -9), came
            self._settled(store, shards, came["acknowledged"], fresh=fresh)

    @precondition(lambda self: not self.writers)
    @rule(
        store=STORES, shards=ORDERS, at=CALLS, kind=st.sampled_from([*ERRNO, "interrupt", "short"]),
        lasts=st.booleans(), how=st.sampled_from(["on", "shared", "over"]),
    )  # fmt: skip
    def failed(self, store: int, shards: list[int], at: int, kind: str, lasts: bool, how: str) -> None:
        store = self._target(store, how)
        fault = Fault(at, kind, lasts and kind not in ("EINTR", "interrupt"))  # Python asks again until it is over
        fresh, overwrite, shared = how == "over" or self._is_fresh(), how == "over", how == "shared"
        with trial(FAILED):
            with suppress(ResourceError, KeyboardInterrupt), watched(fault):
                growing.grow(self.path, store, shards, overwrite=overwrite, shared=shared, finish=True)
            self._settled(store, shards, 0, fresh=fresh)

    @precondition(lambda self: not self.writers and not self._is_fresh())
    @rule(data=st.data(), how=st.sampled_from(["flip", "cut", "grow", "gone"]))
    def damaged(self, data: st.DataObject, how: str) -> None:
        """One file, for a while: it is named, the store takes no more shards, and is as it was when mended."""
        names = self._files()
        name = data.draw(st.sampled_from(names))
        path, whole = self.path / name, (self.path / name).read_bytes()
        if how == "gone" and name.startswith("shards/") and name.endswith(".json") and not self.known.complete:
            return  # the shard was never committed
        changed = self._changed(whole, how, data)
        with trial(DAMAGED), self._mended(path):
            path.unlink() if changed is None else path.write_bytes(changed)
            if changed is None or not _same(name, whole, changed):
                assert name in {p.file for p in verify(self.path)}
                with pytest.raises(CorruptError, match=r"manifest|shards|items") as told:
                    Store.open(self.path, verify="full")
                assert told.value.exit_code == 3
                self._is_kept(name)

    @precondition(lambda self: not self.writers and not self._is_fresh())
    @rule(shared=st.booleans(), other=st.sampled_from(["config", "layout", "columns", "items"]))
    def changed(self, shared: bool, other: str) -> None:
        """The configuration of a run that would go on."""
        assert self.known.store is not None
        self._is_refused(1 - self.known.store, shared=shared)
        ours = growing.manifest(self.known.store)
        if other != "config":
            less: dict[str, Any] = {
                "layout": Layout.of(ours.layout.fields[:1]),
                "columns": ("doc", "pos"),
                "items": None,
            }
            with trial(DRIFTED), pytest.raises(MismatchError, match=other):
                Writer.open(self.path, replace(ours, **{other: less[other]}), shared=shared)

    # --- readers ------------------------------------------------------------------------------------------

    @precondition(lambda self: self.known.store is not None)
    @rule()
    def opened_to_read(self) -> None:
        self.held = Store.open(self.path), self.known

    @precondition(lambda self: self.known.prefix and self.known.store is not None)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        """Some rows in any order, and what stands around one."""
        store, whole = Store.open(self.path), committed_rows(self.known)
        rows = data.draw(st.lists(st.integers(-len(store), len(store) - 1), max_size=6))
        with trial(READ):
            got = store.rows(rows, activations=["blocks.0.mlp"])
            assert got.codes == whole["codes"][rows]
            for name, column in whole["columns"].items():
                np.testing.assert_array_equal(got.columns[name], column[rows])
            assert got.activations["blocks.0.mlp"].equal(whole["kept"][rows])
            for row in rows[:1]:
                around = store.context(row, 0, 0)
                assert (around.doc, around.pos) == tuple(int(whole["columns"][n][row]) for n in ("doc", "pos"))
            with pytest.raises(UsageError, match="rows"):
                store.rows([len(store)])

    @invariant()
    def what_is_seen_is_what_was_committed(self) -> None:
        with trial(READ):
            assert found(self.path) == self.known
            if self.known.store is not None:
                self._agrees(Store.open(self.path), self.known)
            if self.held is not None:
                self._agrees(*self.held)

    # --- what the rules share -------------------------------------------------------------------------------

    def _is_fresh(self) -> bool:
        """Whether a writer begins again: there is no store, or one that ended was removing it."""
        return self.known.store is None or (self.path / CLEARED).exists()

    def _target(self, store: int, how: str) -> int:
        """Which store is written: the one that is there, to overwrite it the other one."""
        there = self.known.store
        return store if there is None else 1 - there if how == "over" else there

    def _settled(self, store: int, shards: Sequence[int], acknowledged: int, *, fresh: bool) -> None:
        """See what is there after a writer of these shards ended somewhere; fail unless that can be.

        fresh  it was to remove what was there, and to begin again
        """
        before, now = self.known, found(self.path)
        kept = frozenset[int]() if fresh else before.committed
        if now.store is None:
            assert fresh
            assert not acknowledged
        elif now != before:
            assert now.store == store
            assert kept <= now.committed <= kept | frozenset(shards)
            assert len(now.committed) >= len(kept) + acknowledged
            assert not now.complete or now.committed == WHOLE
        self.known, self.held = now, None if fresh else self.held

    def _is_refused(self, store: int, *, shared: bool = False) -> None:
        before = self._committed()
        with trial(DRIFTED):
            with pytest.raises(MismatchError, match=r"config\.seed") as told:
                Writer.open(self.path, growing.manifest(store), shared=shared)
            assert told.value.exit_code == 6
            assert self._committed() == before

    def _is_kept(self, damaged: str) -> None:
        """A writer that goes on, if it sees the damage, refuses and leaves all as it is."""
        assert self.known.store is not None
        before = self._committed()
        if verify(self.path, level="fast"):
            with pytest.raises((CorruptError, MismatchError), match=damaged.replace(".", r"\.")):
                Writer.open(self.path, growing.manifest(self.known.store))
            assert self._committed() == before

    def _committed(self) -> dict[str, bytes]:
        """The files, without locks and what a killed writer left."""
        return {n: data for n, data in made_up.contents(self.path).items() if not Path(n).name.startswith(".")}

    @contextmanager
    def _mended(self, path: Path) -> Iterator[None]:
        """A context behind which a file is what it was before."""
        whole = path.read_bytes()
        try:
            yield
        finally:
            path.write_bytes(whole)

    def _files(self) -> list[str]:
        kinds = ("shards/{:06d}.safetensors", "shards/{:06d}.json", "items/{:06d}.safetensors")
        return ["manifest.json", *(form.format(k) for k in sorted(self.known.committed) for form in kinds)]

    def _changed(self, whole: bytes, how: str, data: st.DataObject) -> bytes | None:
        at = data.draw(st.integers(0, len(whole) - 1))
        if how == "flip":
            return whole[:at] + bytes([whole[at] ^ (1 << data.draw(st.integers(0, 7)))]) + whole[at + 1 :]
        return {"cut": whole[:at], "grow": whole + b"\0", "gone": None}[how]

    def _agrees(self, store: Store, known: Known) -> None:
        """Every row of a store."""
        whole = committed_rows(known)
        rows = store.rows(activations=["blocks.0.mlp"])
        assert (len(store.records), store.complete) == (known.prefix, known.complete)
        assert rows.codes == whole["codes"]
        assert rows.activations["blocks.0.mlp"].equal(whole["kept"])
        for name, column in whole["columns"].items():
            np.testing.assert_array_equal(rows.columns[name], column)

    def _ends_as_if_nothing_had_happened(self, store: int) -> None:
        with trial(RESUMED):
            growing.grow(self.path, store, range(SHARDS), finish=True)
            assert made_up.contents(self.path) == undisturbed(store)


def test_whatever_happens_to_a_store(kill: Kill) -> None:
    class Bound(Machine):
        """With the process in which writers die."""

    Bound.kill = staticmethod(kill)
    usual = settings(
        max_examples=scaled(20), stateful_step_count=20, deadline=None, derandomize=SCALE == 1, database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )  # fmt: skip
    run_state_machine_as_test(Bound, settings=usual)
