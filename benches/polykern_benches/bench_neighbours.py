"""Exact nearest codes, beside faiss where it is installed.

`neighbours.limit` is no operation but what a distance is made of: exclusive or, popcount and addition, over words
that sit in L1. The popcount roof is one of the three alone: the share of this row is what another row can have.
"""

import importlib
import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from polykern_benches._ceilings_cpu import L1_WORDS, PASSES, aligned_words, differences, differing
from polykern_benches._harness import Case, Setting, Trial, codes, same
from polykern_kernels import neighbours
from polykern_kernels._cost import Cost
from polykern_kernels._dispatch import Impl, cpu_objection

K = 15
CHECKED = 1536  # words of rows that the reference repeats; it unpacks every bit


def cases(setting: Setting) -> list[Case]:
    """Random codes of 3,072 and of 36,864 bits, among others and among themselves."""
    n = setting.pick(65536 if setting.device == "cuda" else 20000, 40)
    few = setting.pick(2000, 9)
    short, long = setting.pick(96, 3), setting.pick(1152, 5)
    found = [_nearest(setting, n, n, short), _nearest(setting, few, n, long)]
    found += [_self_nearest(setting, n, short), _self_nearest(setting, n, long)]
    return found if setting.device == "cuda" else [_limit(setting), *found]


def _nearest(setting: Setting, n: int, m: int, words: int) -> Case:
    k = setting.pick(K, 3)

    def setup() -> Trial:
        a, b = (codes(rows, words, device=setting.device, seed=seed) for rows, seed in ((n, 0), (m, 1)))

        @cache
        def truth() -> tuple[Tensor, ...]:
            part = neighbours.nearest(a[-_checked(words) :], b, k, backend="reference")
            return (*part, _faiss(a, b, k)) if _faiss_objection(a) is None else part

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
        peers=(FAISS,),
    )


def _self_nearest(setting: Setting, n: int, words: int) -> Case:
    k = setting.pick(K, 3)

    def setup() -> Trial:
        x = codes(n, words, device=setting.device)

        def beside(peer: Callable[..., Tensor]) -> tuple[Tensor]:
            return (peer(x, x, k + 1)[:, 1:],)  # the row itself is the first

        @cache
        def truth() -> tuple[Tensor, ...]:
            own = torch.arange(n, device=x.device)[-_checked(words) :]
            part = neighbours.nearest(x[own], x, k, skip=own, backend="reference")
            return (*part, *beside(_faiss)) if words < 1000 and _faiss_objection(x) is None else part

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
        peers=(FAISS,) if words < 1000 else (),
    )


def _checked(words: int) -> int:
    """Rows that the reference repeats."""
    return max(1, CHECKED // words)


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


# --- the peer -----------------------------------------------------------------------------------


def _faiss_objection(*args: Tensor) -> str | None:
    """Why faiss cannot run, or None."""
    return cpu_objection(*args) if importlib.util.find_spec("faiss") else "not installed: pip install faiss-cpu"


def _faiss(a: Tensor, b: Tensor, k: int) -> Tensor:
    """Distances of IndexBinaryFlat, as many threads as ours."""
    faiss: Any = importlib.import_module("faiss")
    faiss.omp_set_num_threads(numba.get_num_threads())
    rows, columns = (np.ascontiguousarray(x.numpy()).view(np.uint8) for x in (a, b))
    index = faiss.IndexBinaryFlat(8 * columns.shape[1])
    index.add(columns)
    return torch.from_numpy(index.search(rows, k)[0])


FAISS = Impl("faiss", _faiss, _faiss_objection)
