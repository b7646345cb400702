"""The roof: what this machine's memory and units give at best, measured here and now."""

import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import get_num_threads, njit, prange
from numpy.typing import NDArray

from polykern_kernels._cost import Roof
from polykern_kernels._numba.lanes import popcount

PART_BYTES = 64 << 20  # larger than the last-level cache; short enough to be seen undisturbed
PARTS = 4
BLOCK = 1 << 12  # words a task
L1_WORDS = 2048  # uint64 that sit in L1
PASSES = 20000


# loops over slices, whose indices LLVM knows to be in range: it vectorises no others
@njit(parallel=True, nogil=True, error_model="numpy")
def _copy(source, target):  # type: ignore[no-untyped-def]
    for block in prange(len(source) // BLOCK):
        x, y = source[block * BLOCK : (block + 1) * BLOCK], target[block * BLOCK : (block + 1) * BLOCK]
        for i in range(len(x)):
            y[i] = x[i]


@njit(parallel=True, nogil=True, error_model="numpy")
def _read(source, sums):  # type: ignore[no-untyped-def]
    half = len(source) // 2
    for block in prange(half // BLOCK):
        # two streams a thread
        x = source[block * BLOCK : (block + 1) * BLOCK]
        y = source[half + block * BLOCK : half + (block + 1) * BLOCK]
        total = np.uint64(0)
        for i in range(len(x)):
            total ^= x[i] ^ y[i]
        sums[block] = total


@njit(parallel=True, nogil=True, error_model="numpy")
def _count(words, sums, passes):  # type: ignore[no-untyped-def]
    for task in prange(len(sums)):
        total = np.uint64(0)
        for p in range(passes):
            # a window that moves, by whole cache lines, so that no pass repeats the last one
            first = p % 8 * 8
            window = words[first : first + L1_WORDS]
            for i in range(len(window)):
                total += popcount(window[i])  # pyright: ignore[reportCallIssue]
        sums[task] = total


def aligned_words() -> NDArray[np.uint64]:
    """Words that start at a cache line, as torch's memory does: a vector load across two lines is two."""
    return torch.arange(L1_WORDS + 64).numpy().view(np.uint64)


def measured(device: str, small: bool = False) -> Roof:
    """The roof of a device; `small` is quick and not to be trusted."""
    return _cpu(small) if device == "cpu" else _cuda(small)


def _cpu(small: bool) -> Roof:
    words = (PART_BYTES >> (6 if small else 0)) // 8
    source, target = np.ones((PARTS, words), np.uint64), np.zeros((PARTS, words), np.uint64)
    sums = np.zeros(words, np.uint64)
    # part after part: each is cold again when its turn comes
    turn = itertools.cycle(zip(source, target, strict=True))
    repetitions = 4 if small else 40

    def streamed() -> None:
        x, y = next(turn)
        torch.from_numpy(y).copy_(torch.from_numpy(x))

    seconds = (
        _best(lambda: _copy(*next(turn)), repetitions) / 2,
        _best(streamed, repetitions) / 2,
        _best(lambda: _read(next(turn)[0], sums), repetitions),
    )
    window, tasks = aligned_words(), np.zeros(get_num_threads(), np.uint64)
    passes = PASSES // (20 if small else 1)
    counted = 2 * len(tasks) * passes * L1_WORDS / _best(lambda: _count(window, tasks, passes), repetitions)
    return Roof(8 * words / min(seconds), counted, _flops("cpu", 256 if small else 768, repetitions))


def _cuda(small: bool) -> Roof:
    from polykern_benches._device import popcounts_per_launch

    source = torch.ones(PART_BYTES >> (4 if small else 0), dtype=torch.int32, device="cuda")
    target = torch.empty_like(source)
    moved = 2 * source.numel() * 4 / _best(lambda: target.copy_(source), 9, torch.cuda.synchronize)
    launch, count = popcounts_per_launch("cuda", programs=1 << 14, passes=256)
    counted = count / _best(launch, 9, torch.cuda.synchronize)
    return Roof(moved, counted, _flops("cuda", 1024 if small else 8192, 9))


def _flops(device: str, size: int, repetitions: int) -> float:
    """Multiply-adds of a float64 matrix product, counted twice."""
    a = torch.ones((size, size), dtype=torch.float64, device=device)
    wait = torch.cuda.synchronize if device == "cuda" else _nothing
    return 2 * size**3 / _best(lambda: a @ a, repetitions, wait)


def _nothing() -> None:
    return None


def _best(fn: Callable[[], Any], repetitions: int, wait: Callable[[], None] = _nothing) -> float:
    """Seconds of the fastest run, the first not counted."""
    fn()
    times = []
    for _ in range(repetitions):
        wait()
        start = time.perf_counter()
        fn()
        wait()
        times.append(time.perf_counter() - start)
    return min(times)
