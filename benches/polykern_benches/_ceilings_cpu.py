"""What the memory and the vectors of a CPU give at best: loops that do one thing, and torch's products."""

import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import get_num_threads, njit, prange
from numpy.typing import NDArray

from polykern_benches._popcounts import differing_bits, ones
from polykern_benches._products import KINDS, WrongResult, product

PART_BYTES = 64 << 20  # larger than the last-level cache; short enough to be seen undisturbed
PARTS = 4
BLOCK = 1 << 12  # words a task
L1_WORDS = 2048  # uint64 that sit in L1
PASSES = 20000
REPETITIONS = 40


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
            total += ones(words, first, L1_WORDS)  # pyright: ignore[reportCallIssue]
        sums[task] = total


@njit(parallel=True, nogil=True, error_model="numpy")
def differing(words, sums, passes):  # type: ignore[no-untyped-def]
    """sums[task] = bits in which the words, a multiple of STEP, differ from each of `passes` words."""
    for task in prange(len(sums)):
        total = np.uint64(0)
        for p in range(passes):
            # another word in each pass, so that none repeats the last
            total += differing_bits(words, 0, len(words), np.uint64(p))  # pyright: ignore[reportCallIssue]
        sums[task] = total


def aligned_words() -> NDArray[np.uint64]:
    """Words that start at a cache line, as torch's memory does: a vector load across two lines is two."""
    return torch.arange(L1_WORDS + 64).numpy().view(np.uint64)


def measure(name: str, small: bool) -> tuple[float, None]:
    """The rate of a unit of `Ceilings`; a CPU's clock is not read.

    Raises LookupError when a CPU has no such unit, WrongResult when what was computed is wrong.
    """
    if name in KINDS:
        return _product(name, small), None
    if name not in UNITS:
        raise LookupError("a CPU has no such unit")
    return UNITS[name](small), None


def _streams(small: bool) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    words = (PART_BYTES >> (6 if small else 0)) // 8
    source = np.arange(PARTS * words, dtype=np.uint64).reshape(PARTS, words)
    return source, np.zeros_like(source)


def _copied(small: bool) -> float:
    source, target = _streams(small)
    # part after part: each is cold again when its turn comes
    turn = itertools.cycle(zip(source, target, strict=True))

    def by_torch() -> None:
        x, y = next(turn)
        torch.from_numpy(y).copy_(torch.from_numpy(x))

    rates: list[float] = []
    for way in (lambda: _copy(*next(turn)), by_torch):
        target.fill(0)
        rates.append(2 * source[0].nbytes / _best(way, small))
        if not np.array_equal(source, target):
            raise WrongResult("the copy is wrong")
    return max(rates)


def _streamed(small: bool) -> float:
    source, _ = _streams(small)
    sums, turn = np.zeros(source.shape[1] // 2 // BLOCK, np.uint64), itertools.cycle(range(PARTS))
    part = -1

    def run() -> None:
        nonlocal part
        part = next(turn)
        _read(source[part], sums)

    rate: float = source[0].nbytes / _best(run, small)
    if np.bitwise_xor.reduce(sums) != np.bitwise_xor.reduce(source[part]):
        raise WrongResult("not all was read")
    return rate


def _counted(small: bool) -> float:
    words, sums = aligned_words(), np.zeros(get_num_threads(), np.uint64)
    passes = PASSES // (20 if small else 1)
    rate = 2 * len(sums) * passes * L1_WORDS / _best(lambda: _count(words, sums, passes), small)
    ones = np.bitwise_count(words).cumsum(dtype=np.uint64)
    windows = [int(ones[first + L1_WORDS - 1]) - int(ones[first - 1] if first else 0) for first in range(0, 64, 8)]
    _same(sums, sum(windows[p % 8] for p in range(passes)))
    return rate


def _differed(small: bool) -> float:
    words, sums = aligned_words()[:L1_WORDS], np.zeros(get_num_threads(), np.uint64)
    passes = PASSES // (20 if small else 1)
    rate = 2 * len(sums) * passes * L1_WORDS / _best(lambda: differing(words, sums, passes), small)
    _same(sums, differences(words, passes))
    return rate


def differences(words: NDArray[np.uint64], passes: int) -> int:
    """What `differing` counts: for every bit, words that have it times passes that lack it, and the reverse."""
    total = 0
    for bit in range(64):
        here = int((words >> np.uint64(bit) & np.uint64(1)).sum())
        there = sum(p >> bit & 1 for p in range(passes))
        total += here * (passes - there) + (len(words) - here) * there
    return total


def _same(sums: NDArray[np.uint64], truth: int) -> None:
    if sums.tolist() != [truth] * len(sums):
        raise WrongResult("the count is wrong")


def _product(name: str, small: bool) -> float:
    size = 256 if small else 768
    run, judge = product(name, size, "cpu")
    judge(run())
    return 2 * size**3 / _best(run, small)


def _best(fn: Callable[[], Any], small: bool) -> float:
    """Seconds of the fastest run, the first not counted."""
    fn()
    times = []
    for _ in range(4 if small else REPETITIONS):
        start = time.perf_counter()
        fn()
        times.append(time.perf_counter() - start)
    return min(times)


UNITS: dict[str, Callable[[bool], float]] = {
    "copy": _copied,
    "read": _streamed,
    "popcount": _counted,
    "differing": _differed,
}
