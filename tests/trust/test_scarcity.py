"""A device that runs out of memory, without a device: the same bytes with less at a time, or exit code 4."""

import random
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import polykern as pk
from polykern import heat
from polykern.anchored import AnchoredEngine
from polykern.block import Block
from polykern.cli.app import run
from polykern.clustering import medoids
from polykern.clustering.euclidean import Euclidean
from polykern.clustering.space import Packed
from polykern.clustering.spanning import minimum_spanning_tree
from polykern.dense import DenseEngine, read
from polykern.errors import ResourceError
from polykern.lines import crossings, sampled_crossings
from polykern.points import codes_of
from polykern.tiles import Choice, TileEngine
from tests.trust.faults import Fault
from tests.trust.jobs import JOBS, left
from tests.trust.ledger import SCALE, scaled, trial
from tests.trust.scarce import failing, scarce

HALVED, ENDED = "R7 memory of a device: halved, same bytes", "R7 memory of a device: same bytes or exit code 4"
TODAY = ("heatmap", "heatmap-tiles", "heatmap-anchored", "partition", "capture", "cluster", "embeddings")
SOAK = (*TODAY, "spectrum", "path", "ray", "synonyms", "residual", "report", "pairs", "complexity")


def _maps(engine: Any) -> Callable[[], list[Tensor]]:
    grid = _recipe().grid

    def found() -> list[Tensor]:
        whole = engine.blocks(grid, [Block(100, 90, 33, 16), Block(30, 30, 9, 16)])
        return [
            torch.from_numpy(getattr(m, name)) for m in whole for name in ("right", "down", "digest", "classes")
        ]

    return found


@cache
def _recipe() -> Any:
    return heat.prepare(pk.load("digits"), resolution=256)


def _tail() -> Any:
    return _recipe().tail


@cache
def _anchored() -> AnchoredEngine:
    """After it has seen how much a point takes."""
    engine = AnchoredEngine(_tail(), tile=8)
    engine.batch(_recipe().grid)
    return engine


def _codes(n: int = 150) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    centres = torch.randint(0, 2**31, (9, 3), generator=draw)
    flips = torch.randint(0, 2**31, (n, 3), generator=draw) & torch.randint(0, 2**31, (n, 3), generator=draw)
    words: Tensor = centres[torch.randint(0, 9, (n,), generator=draw)] ^ (flips & 0x11111111)
    distinct: Tensor = torch.unique(words.int(), dim=0)
    return distinct


def _tree(space: Any) -> list[Tensor]:
    near, who = space.nearest(3)
    tree = minimum_spanning_tree(space, near, who, near[:, 2])
    return [near, who, tree.source, tree.target, tree.weight]


def _medoids() -> list[Tensor]:
    words, labels = _codes(), np.arange(len(_codes())) % 7 - 1
    found = medoids.of_codes(words, 96, labels)
    told = list(medoids.telling_bits(words, 96, labels, 4))
    return [torch.from_numpy(x) for x in (found.medoid, found.distance, found.order, *(t.bits for t in told))]


def _line(find: Any) -> list[Tensor]:
    tail, draw = _tail(), torch.Generator().manual_seed(1)
    a, b = (torch.rand(tail.input_shape, generator=draw) for _ in range(2))
    found = find(tail, a, b)
    return [torch.as_tensor(found.t), torch.as_tensor(found.bit)]


def _points() -> list[Tensor]:
    tail = _tail()
    x = torch.rand((40, *tail.input_shape), generator=torch.Generator().manual_seed(2))
    return [codes_of(tail, x).words, *read(tail, x)]


ENGINES: dict[str, Callable[[], list[Tensor]]] = {
    "tiles": lambda: _maps(TileEngine(_tail(), Choice(16, 400, 20, 0)))(),
    "dense": lambda: _maps(DenseEngine(_tail(), torch.float64))(),
    "anchored": lambda: _maps(_anchored())(),
    "points": _points,
    "neighbours and tree": lambda: _tree(Packed(_codes(), spare=0)),
    "jaccard": lambda: _tree(Packed(_codes(), "jaccard", spare=0)),
    "euclidean": lambda: _tree(Euclidean(torch.rand(90, 5, generator=torch.Generator().manual_seed(3)))),
    "medoids": _medoids,
    "lines": lambda: _line(crossings),
    "sampled lines": lambda: _line(sampled_crossings),
}


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    """Bit for bit."""
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", ENGINES)
def test_less_at_a_time_gives_the_same(name: str) -> None:
    """Work is refused at first, at some call, twice in a row, and whatever is more than half of the largest."""
    job = ENGINES[name]
    job()  # what is compiled or measured once
    with failing(lambda number, work: False) as asked:
        whole = job()
    assert asked
    rng = random.Random(name)
    later = {rng.randint(1, len(asked)) for _ in range(scaled(1, len(asked)))}
    plans: list[Callable[[int, Any], bool]] = [lambda n, work: n == 1, lambda n, work: n <= 2]
    plans += [lambda n, work, at=at: n == at for at in sorted(later)]  # type: ignore[misc]
    for refused in plans:
        with trial(HALVED), failing(refused) as again:
            assert same(job(), whole)
            assert len(again) > len(asked)
    with trial(HALVED), failing(lambda n, work: True), pytest.raises(ResourceError, match="memory does not hold"):
        job()


def test_an_asynchronous_batch_that_fails_when_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a device, where the next batch begins before the last is collected."""
    engine = AnchoredEngine(_tail(), tile=8)
    job = _maps(engine)
    whole, real, asked = job(), AnchoredEngine._pass, []
    monkeypatch.setattr(AnchoredEngine, "batch", lambda self, grid: 4)
    monkeypatch.setattr(AnchoredEngine, "_sent", lambda self, x: x)

    def scarce(self: AnchoredEngine, arithmetic: Any, grid: Any, tiles: Any, side: int, seen: Any) -> Any:
        asked.append(len(tiles))
        if len(asked) > 3 and len(tiles) > 2:
            raise torch.OutOfMemoryError
        self._device = torch.device("cpu")
        begun = real(self, arithmetic, grid, tiles, side, seen)
        self._device = torch.device("cuda")
        return begun

    monkeypatch.setattr(AnchoredEngine, "_pass", scarce)
    engine._device = torch.device("cuda")
    assert same(job(), whole)
    assert {2, 4} <= set(asked)


def test_minima_that_do_not_fit_are_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    words = torch.randint(0, 2**31, (1100, 2), generator=torch.Generator().manual_seed(0)).int()
    whole = Packed(words).nearest(2)

    def scarce(*args: object, **how: object) -> None:
        raise MemoryError("Unable to allocate 2.1 MiB")

    monkeypatch.setattr("polykern_kernels.survey.nearest", scarce)
    with trial(HALVED):
        assert same(list(Packed(words).nearest(2)), list(whole))


# --- whole commands ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TODAY if SCALE == 1 else SOAK)
def test_an_allocation_that_is_refused(
    inputs: Path, folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    job, rng = JOBS[name], random.Random(name)
    with scarce() as allocator:
        assert run([*job.line(inputs, folder / "whole"), "-q"]) == 0
    whole = left(folder / "whole")
    faults = [Fault(1), *(Fault(rng.randint(1, allocator.calls), lasts=k % 4 == 3) for k in range(scaled(1, 200)))]
    for number, fault in enumerate(faults):
        out = folder / str(number)
        capsys.readouterr()
        with trial(ENDED):
            with scarce(fault):
                code = run([*job.line(inputs, out), "-q"])
            said = capsys.readouterr().err
            assert code in (0, 4), (fault, said)
            if code == 4:
                assert said.count("error: ") == 1
                assert "memory" in said
                assert "fix: " in said
                assert "Traceback" not in said
                again = () if job.again == "resumes" or not out.exists() else ("--overwrite",)
                with scarce():
                    assert run([*job.line(inputs, out), "-q", *again]) == 0
            assert left(out) == whole, fault
        shutil.rmtree(out)
