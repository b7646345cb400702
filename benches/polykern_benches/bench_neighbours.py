"""Exact nearest codes, beside the libraries that find them.

`neighbours.limit` is no operation but what a distance is made of: exclusive or, popcount and addition, over words
that sit in L1. The popcount roof is one of the three alone: the share of this row is what another row can have.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numba
import numpy as np
import torch
from torch import Tensor

from polykern_benches._ceilings_cpu import L1_WORDS, PASSES, aligned_words, differences, differing
from polykern_benches._harness import Case, Setting, Trial, codes, same
from polykern_benches.peers import nearest
from polykern_kernels import neighbours
from polykern_kernels._cost import Cost
from polykern_kernels._dispatch import Impl, cpu_objection

K = 15
MANY = 1_000_000  # rows of the largest search
PEERS = tuple(peer for peer in nearest.PEERS if peer.name != "scikit-learn")  # which takes minutes
FLAT = tuple(peer for peer in PEERS if peer.name.startswith("faiss"))
FAISS = FLAT[0]
CHECKED = 1536  # words of rows that the reference repeats; it unpacks every bit
AGAIN = 64  # rows of a GPU's lists that the CPU finds again


def cases(setting: Setting) -> list[Case]:
    """Random codes of 3,072 and of 36,864 bits, among others and among themselves."""
    gpu = setting.device == "cuda"
    n, k = _rows(setting), setting.pick(K, 3)
    few = setting.pick(2000, 9)
    short, long = setting.pick(96, 3), setting.pick(1152, 5)
    found = [_nearest(setting, n, n, short, k), _nearest(setting, few, n, long, k)]
    found += [_self_nearest(setting, n, short, k), _self_nearest(setting, n, long, k)]
    if not gpu:
        return [_limit(setting), *found]
    return [pairs(setting), *found, million(setting)]


def pairs(setting: Setting) -> Case:
    """All pairs with next to nothing behind them."""
    n = _rows(setting)
    return _nearest(setting, n, n, setting.pick(96, 3), 1)


def million(setting: Setting) -> Case:
    """A million codes among themselves, the fastest way alone: popcounts and peers would take minutes."""
    case = _self_nearest(setting, setting.pick(MANY, 60), setting.pick(96, 3), 16)
    fast = [way for way in case.ways if way.name in ("b1", "dot", "cpu")]
    return replace(case, ways=fast, peers=(), heavy=setting.device == "cpu", samples=5)


def _rows(setting: Setting) -> int:
    n: int = setting.pick(65536 if setting.device == "cuda" else 20000, 40)
    return n


def _nearest(setting: Setting, n: int, m: int, words: int, k: int) -> Case:
    def setup() -> Trial:
        a, b = (codes(rows, words, device=setting.device, seed=seed) for rows, seed in ((n, 0), (m, 1)))

        @cache
        def truth() -> tuple[Tensor, ...]:
            part = _again(a[-_checked(a) :], b, k)
            return (*part, FAISS.run(a, b, k)) if FAISS.objection(a, b) is None else part

        return Trial(
            inputs=(a, b),
            run=lambda backend: neighbours.nearest(a, b, k, backend=backend),
            holds=lambda got: _holds(got, truth()),
            beside=lambda peer: (peer(a, b, k),),
        )

    return Case(
        operation="neighbours.nearest",
        params={"n": n, "m": m, "words": words, "k": k},
        dtype="int32",
        cost=neighbours.cost(n, m, words, k),
        ways=neighbours.IMPLS["nearest"],
        setup=setup,
        peers=PEERS if words < 1000 else FLAT,
    )


def _self_nearest(setting: Setting, n: int, words: int, k: int) -> Case:
    def setup() -> Trial:
        x = codes(n, words, device=setting.device)

        def beside(peer: Callable[..., Tensor]) -> tuple[Tensor]:
            return (peer(x, x, k + 1)[:, 1:],)  # the row itself is the first

        @cache
        def truth() -> tuple[Tensor, ...]:
            own = torch.arange(n, device=x.device)[-_checked(x) :]
            part = _again(x[own], x, k, own)
            return (*part, *beside(FAISS.run)) if words < 1000 and FAISS.objection(x) is None else part

        return Trial(
            inputs=(x,),
            run=lambda backend: neighbours.self_nearest(x, k, backend=backend),
            holds=lambda got: _holds(got, truth()),
            beside=beside,
        )

    return Case(
        operation="neighbours.self_nearest",
        params={"n": n, "words": words, "k": k},
        dtype="int32",
        cost=neighbours.cost_self(n, words, k),
        ways=neighbours.IMPLS["self_nearest"],
        setup=setup,
        peers=FLAT if words < 1000 else (),
    )


def _checked(x: Tensor) -> int:
    """Rows whose lists are found again."""
    return AGAIN if x.is_cuda else max(1, CHECKED // x.shape[1])


def _again(rows: Tensor, x: Tensor, k: int, skip: Tensor | None = None) -> tuple[Tensor, ...]:
    """Their lists by the reference; those of a GPU by the CPU, for the reference unpacks all of x at once."""
    if rows.is_cuda:
        own = None if skip is None else skip.cpu()
        return neighbours.nearest(rows.cpu(), x.cpu(), k, skip=own, backend="cpu")
    return neighbours.nearest(rows, x, k, skip=skip, backend="reference")


def _holds(got: tuple[Tensor, ...], truth: tuple[Tensor, ...]) -> bool:
    """The reference on the last rows; faiss, whose order among ties is its own, on all distances."""
    return all(same(x[-len(y) :], y) for x, y in zip(got, truth[: len(got)], strict=True)) and (
        len(truth) < 3 or same(got[0], truth[2])
    )


def _limit(setting: Setting) -> Case:
    words = aligned_words()[:L1_WORDS]
    passes, tasks = setting.pick(PASSES, 10), numba.get_num_threads()

    def run(backend: str) -> Tensor:
        sums = np.zeros(tasks, np.uint64)
        differing(words, sums, passes)
        return torch.from_numpy(sums.view(np.int64))

    def holds(got: Tensor) -> bool:
        return got.tolist() == [differences(words, passes)] * tasks

    return Case(
        operation="neighbours.limit",
        params={"threads": tasks, "words": 2 * len(words), "passes": passes},
        dtype="int32",
        cost=Cost(bytes=8 * tasks, popcounts=2 * tasks * passes * len(words)),
        ways=(Impl("cpu", run, cpu_objection),),
        setup=lambda: Trial((torch.empty(0),), run, holds),
    )
