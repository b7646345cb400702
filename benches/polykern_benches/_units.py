"""What the kernels of `ceilings.cu` do in a pass, and what they must have written after many: again, in numpy.

Every block does the same, so one block's results are the truth of all. They are integers, and floats that hold
integers small enough to be exact.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Words = NDArray[np.uint32]

CHAINS = 8
LANES = 32
GROUP, PART = np.arange(LANES) >> 2, np.arange(LANES) & 3  # a lane's place in the fragment of a matrix
EXACT = 1 << 21  # float32 sums stay below it, eight of them together below 2**24


@dataclass(frozen=True, slots=True)
class Unit:
    """One kernel.

    name      of the kernel, and of the rate it gives in `Ceilings`
    threads   of a block
    blocks    a processor
    work      of a block in a pass: words, bit pairs, or multiplies and adds
    written   the results of a block after `passes`: int64 (threads * results of a thread)
    most      passes, so that every sum is exact
    """

    name: str
    threads: int
    blocks: int
    work: int
    written: Callable[[int, int], Numbers]
    most: int = 1 << 24


def hashed(lane: NDArray[np.int64], i: NDArray[np.int64] | int, seed: int) -> Words:
    """The kernels' numbers, different from lane to lane and from register to register."""
    x = np.asarray((lane * 16 + i + 1) * 2654435761 + seed).astype(np.uint32)
    x ^= x >> np.uint32(15)
    x *= np.uint32(2246822519)
    return np.asarray(x ^ x >> np.uint32(13))


# --- units of words: 32 lanes, eight chains each ---------------------------------------------------


def _chains(seed: int) -> tuple[Words, Words]:
    lanes, chains = np.arange(LANES)[:, None], np.arange(CHAINS)
    return hashed(lanes, chains, seed), hashed(lanes, chains + CHAINS, seed)


def _block(x: NDArray[np.generic], y: Words, threads: int = 1024) -> Numbers:
    return np.tile((x.astype(np.int64) + y.astype(np.int64)).sum(1), threads // LANES)


def _majority(a: Words, b: Words, c: Words | np.uint32) -> Words:
    return np.asarray((a & b) | (a & c) | (b & c))


def _popcount(passes: int, seed: int) -> Numbers:
    x, y = _chains(seed)
    key = np.uint32(seed)
    for _ in range(passes):
        x += np.bitwise_count(x ^ key)
    return _block(x, y)


def _logic(passes: int, seed: int) -> Numbers:
    x, y = _chains(seed)
    key = np.uint32(seed)
    for _ in range(passes):
        x = x ^ y ^ key
        y = _majority(x, y, key)
    return _block(x, y)


def _carry_save(passes: int, seed: int) -> Numbers:
    x, y = _chains(seed)
    one, other = np.uint32(seed), np.uint32(~(3 * seed) & 0xFFFFFFFF)
    for _ in range(passes):
        u, v = x ^ one, x ^ other
        carries = _majority(y, u, v)
        y = y ^ u ^ v
        x += np.bitwise_count(carries)
    return _block(x, y)


def _float32(passes: int, seed: int) -> Numbers:
    x, y = _chains(seed)
    x = x >> np.uint32(20)
    return _block(np.uint32(4096) - x if passes % 2 else x, y)


# --- tensor units: fragments of matrices put together --------------------------------------------

Product = Callable[[Words, Words], Numbers]  # of rows and columns of words, (rows, columns, words) -> numbers


def bits(a: Words, b: Words) -> Numbers:
    """The ones that two words share."""
    return np.asarray(np.bitwise_count(a & b), np.int64)


def octets(a: Words, b: Words) -> Numbers:
    """The product of four numbers of -8 ... 7 each."""
    return np.asarray((_octets(a) * _octets(b)).sum(-1))


def _octets(x: Words) -> Numbers:
    narrow = np.asarray(x & np.uint32(0x0F0F0F0F) | (x & np.uint32(0x08080808)) * np.uint32(0x1E))
    return np.ascontiguousarray(narrow)[..., None].view(np.int8).astype(np.int64)


def signs(a: Words, b: Words) -> Numbers:
    """The product of two numbers of +1 and -1 each."""
    different = np.bitwise_count((a ^ b) & np.uint32(0x80008000)).astype(np.int64)
    return np.asarray(2 - 2 * different)


def _matrices(registers: int, seed: int) -> tuple[Words, Words]:
    """A (rows, words) and B (columns, words) of a warp, from the registers that its lanes hold of them."""
    a = np.zeros((16 if registers > 1 else 8, 2 * max(registers, 2)), np.uint32)
    b = np.zeros((8, a.shape[1]), np.uint32)
    lanes = np.arange(LANES)
    for i in range(registers):
        a[GROUP + 8 * (i & 1), PART + 4 * (i >> 1)] = hashed(lanes, i, seed)
    for i in range((registers + 1) // 2):
        b[GROUP, PART + 4 * i] = hashed(lanes, i + 8, seed)
    return a, b


def _warp(product: Product) -> Callable[[int, int], Numbers]:
    def written(passes: int, seed: int) -> Numbers:
        a, b = _matrices(4, seed)
        return _fragment(product(a[:, None], b[None]).sum(-1) * passes * CHAINS)

    return written


def _fragment(d: Numbers) -> Numbers:
    """What the lanes of eight warps hold of a matrix of sums, four numbers each."""
    at = ((row, 2 * PART + column) for row in (GROUP, GROUP + 8) for column in (0, 1))
    held = [d[place] if place[0].max() < len(d) else np.zeros(LANES, np.int64) for place in at]
    return np.tile(np.stack(held, 1).ravel(), 8)


def _float64(registers: int) -> Callable[[int, int], Numbers]:
    def written(passes: int, seed: int) -> Numbers:
        a, b = ((x >> np.uint32(24)).astype(np.int64) - 128 for x in _matrices(registers, seed))
        return _fragment(a @ b.T * passes * CHAINS)

    return written


def _warpgroup(product: Product) -> Callable[[int, int], Numbers]:
    def written(passes: int, seed: int) -> Numbers:
        rows = hashed(np.arange(128 + 256), 0, seed)
        d = product(rows[:128, None, None], rows[None, 128:, None]).sum(-1) * passes * 32
        held = d.reshape(128, 32, 4, 2).sum((1, 3))  # (row, columns of a lane)
        row = 16 * np.arange(8)[:, None] + GROUP
        return np.stack([held[row, PART], held[row + 8, PART]], -1).ravel()

    return written


def units(target: str) -> list[Unit]:
    """The kernels that a target may have, "80" or "90a"; its module lacks those for which it has no unit."""
    warp, registers = 8 * CHAINS * 16 * 8, 8 if int(target.rstrip("a")) >= 90 else 1
    products = 16 * 8 * 16 if registers == 8 else 8 * 8 * 4
    four = 2 * 4 * 64 * 256
    return [
        Unit("popcount", 1024, 2, 1024 * CHAINS, _popcount),
        Unit("logic", 1024, 2, 1024 * CHAINS * 2, _logic),
        Unit("carry_save", 1024, 2, 1024 * CHAINS * 2, _carry_save),
        Unit("float32", 1024, 2, 1024 * CHAINS * 2, _float32),
        Unit("b1_mma", 256, 2, warp * 256, _warp(bits), (1 << 31) // 256),
        Unit("int8_mma", 256, 2, warp * 32 * 2, _warp(octets), (1 << 31) // (32 * 64)),
        Unit("fp16_mma", 256, 2, warp * 16 * 2, _warp(signs), EXACT // 16),
        Unit("bf16_mma", 256, 2, warp * 16 * 2, _warp(signs), EXACT // 16),
        Unit("float64_mma", 256, 2, 8 * CHAINS * products * 2, _float64(registers)),
        Unit("b1_wgmma", 256, 1, four * 256, _warpgroup(bits), (1 << 31) // 1024),
        Unit("int8_wgmma", 256, 1, four * 32 * 2, _warpgroup(octets), (1 << 31) // (128 * 64)),
        Unit("fp16_wgmma", 256, 1, four * 16 * 2, _warpgroup(signs), EXACT // 64),
        Unit("bf16_wgmma", 256, 1, four * 16 * 2, _warpgroup(signs), EXACT // 64),
    ]
