"""Maps made smaller block by block: sums that conserve counts, and extremes that keep thin lines.

A block is `block` x `block` pixels; the last row and column of blocks may hold fewer. Every
function reads a map a stripe of rows at a time, so a memory map never comes into memory whole.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

STRIPE = 512  # rows read at once: 8 MiB of a 4096-pixel uint32 map

Rows = Callable[[int, int], NDArray[Any]]
"""rows(start, stop) of a map, as an array (stop - start, width)."""


def sums(rows: Rows, shape: tuple[int, int], block: int, dtype: DTypeLike = np.uint32) -> NDArray[Any]:
    """The sum of every block, so that the sum over the map is conserved.

    rows    rows(start, stop) -> (stop - start, width)
    shape   (height, width) of the map, pixels
    block   side of a block, pixels
    dtype   of the sums; the caller answers for their range

    Returns `dtype` (ceil(height / block), ceil(width / block)). Exact for integers.
    """
    return _reduced(rows, shape, block, np.add, np.dtype(dtype))


def maxima(rows: Rows, shape: tuple[int, int], block: int, dtype: DTypeLike = np.uint32) -> NDArray[Any]:
    """The largest value of every block; arguments as for `sums`. Exact."""
    return _reduced(rows, shape, block, np.maximum, np.dtype(dtype))


def minima(rows: Rows, shape: tuple[int, int], block: int, dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """The smallest value of every block; arguments as for `sums`. Exact."""
    return _reduced(rows, shape, block, np.minimum, np.dtype(dtype))


def areas(shape: tuple[int, int], block: int) -> NDArray[np.int64]:
    """int64 (rows, columns) of blocks: how many pixels each block holds."""
    tall, wide = (np.minimum(block, n - np.arange(0, n, block)) for n in shape)
    return np.multiply.outer(tall, wide).astype(np.int64)


def halved(block: NDArray[Any], how: np.ufunc) -> NDArray[Any]:
    """Rows and columns folded two by two with `how`; an odd last one stays by itself."""
    return _folded(_folded(block, 2, how).T, 2, how).T


def stripes(height: int, block: int = 1) -> Iterator[tuple[int, int]]:
    """(start, stop) of stripes of rows, each start a multiple of `block`."""
    tall = max(block, STRIPE // block * block)
    for start in range(0, height, tall):
        yield start, min(height, start + tall)


def _reduced(rows: Rows, shape: tuple[int, int], block: int, how: np.ufunc, dtype: np.dtype[Any]) -> NDArray[Any]:
    height, width = shape
    out = np.empty((-(-height // block), -(-width // block)), dtype)
    for start, stop in stripes(height, block):
        part = _folded(rows(start, stop), block, how, dtype)
        first = start // block
        out[first : first + len(part)] = _folded(part.T, block, how).T
    return out


def _folded(rows: NDArray[Any], block: int, how: np.ufunc, dtype: np.dtype[Any] | None = None) -> NDArray[Any]:
    """Groups of `block` rows folded into one by `how`."""
    out = np.array(rows[::block], dtype or rows.dtype)
    for k in range(1, block):
        more = rows[k::block]
        how(out[: len(more)], more, out=out[: len(more)], casting="unsafe")
    return out
