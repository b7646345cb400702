"""Euclidean distances in their defined order, and the lists that tiles of estimates are sifted into."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
BLOCK = 64  # columns looked at together: most blocks hold nobody who is near enough


@intrinsic
def _squares(typing: Any, x: Any, i: Any, y: Any, j: Any) -> Any:
    """The sum of (x[i, c] - y[j, c])**2 in float64; x and y are C-contiguous, c counts a multiple of 16."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        double, word = ir.DoubleType(), context.get_value_type(types.intp)
        wide = ir.VectorType(double, LANES)

        def row(kind: Any, array: Any, index: Any) -> Any:
            view = context.make_array(kind)(context, builder, array)
            return cgutils.get_item_pointer(
                context, builder, kind, view, [index, word(0)], wraparound=False
            ), cgutils.unpack_tuple(builder, view.shape)[1]

        def load(kind: Any, first: Any, at: Any) -> Any:
            element = context.get_data_type(kind.dtype)
            place = builder.bitcast(builder.gep(first, [at]), ir.VectorType(element, LANES).as_pointer())
            lanes = builder.load(place)
            lanes.align = kind.dtype.bitwidth // 8
            return lanes if kind.dtype == types.float64 else builder.fpext(lanes, wide)

        (left, size), (right, _) = (
            row(signature.args[0], args[0], args[1]),
            row(signature.args[2], args[2], args[3]),
        )
        total = cgutils.alloca_once_value(builder, ir.Constant(wide, None))
        with cgutils.for_range_slice(builder, word(0), size, word(LANES), word) as (at, _):
            t = builder.fsub(load(signature.args[0], left, at), load(signature.args[2], right, at))
            builder.store(builder.fadd(builder.load(total), builder.fmul(t, t)), total)
        lanes, width = builder.load(total), LANES
        while width > 1:
            width //= 2
            halves = [
                builder.shuffle_vector(
                    lanes,
                    lanes,
                    ir.Constant(ir.VectorType(ir.IntType(32), width), list(range(s, s + width))),
                )
                for s in (0, width)
            ]
            lanes = builder.fadd(*halves)
        return builder.extract_element(lanes, ir.Constant(ir.IntType(32), 0))

    return types.float64(x, types.intp, y, types.intp), codegen


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def pairs(x, i, j, out):
    for p in prange(len(i)):
        out[p] = np.sqrt(_squares(x, i[p], x, j[p]))


@njit(cache=True, nogil=True, error_model="numpy")
def _limit(distance, reach, low, scale, columns, unit):
    """`Rows.limit` of one row."""
    far = scale * distance * (1.0 + (columns + 16) * 2.0**-53) + reach
    edge = far * far + 8.0 * columns * 2.0**-126 - np.float64(low)
    return edge + abs(edge) * 4.0 * unit


@njit(cache=True, nogil=True, error_model="numpy")
def _offer(distance, q, near, index):
    """Puts a row into an ascending list if it belongs there."""
    k = len(near)
    if distance > near[k - 1] or (distance == near[k - 1] and q > index[k - 1]):
        return False
    at = k - 1
    while at > 0 and (distance < near[at - 1] or (distance == near[at - 1] and q < index[at - 1])):
        near[at], index[at] = near[at - 1], index[at - 1]
        at -= 1
    near[at], index[at] = distance, q
    return True


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def nearest_rows(tile, a, b, scale, columns, unit, x, low, reach, limit, near, index):
    """Offers rows b, b + 1, ... to the lists of rows a, a + 1, ...; tile (rows, columns) holds their products."""
    rows, count = tile.shape
    for i in prange(rows):
        p = a + i
        for first in range(0, count, BLOCK):
            last = min(count, first + BLOCK)
            edge, hits = limit[p], 0
            for c in range(first, last):
                hits += low[b + c] - (tile[i, c] + tile[i, c]) <= edge
            if hits == 0:
                continue
            for c in range(first, last):
                q = b + c
                if low[q] - (tile[i, c] + tile[i, c]) <= limit[p] and q != p:
                    d = np.sqrt(_squares(x, p, x, q))
                    if _offer(d, q, near[p], index[p]):
                        limit[p] = _limit(near[p, -1], reach[p], low[p], scale, columns, unit)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def nearest_columns(tile, a, b, scale, columns, unit, x, low, reach, limit, near, index):
    """Offers rows a, a + 1, ... to the lists of rows b, b + 1, ..."""
    rows, count = tile.shape
    for block in prange((count + BLOCK - 1) // BLOCK):
        first, last = block * BLOCK, min(count, block * BLOCK + BLOCK)
        for i in range(rows):
            p = a + i
            own, hits = low[p], 0
            for c in range(first, last):
                hits += own - (tile[i, c] + tile[i, c]) <= limit[b + c]
            if hits == 0:
                continue
            for c in range(first, last):
                q = b + c
                if own - (tile[i, c] + tile[i, c]) <= limit[q]:
                    d = np.sqrt(_squares(x, q, x, p))
                    if _offer(d, p, near[q], index[q]):
                        limit[q] = _limit(near[q, -1], reach[q], low[q], scale, columns, unit)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def foreign(
    tile, scale, columns, unit, asking, others, other_low, other_of, cores, of, x, low, reach, limit, weight, point
):
    """Lowers weight and point of the rows that ask to those of the least edge to `others`."""
    rows, count = tile.shape
    for i in prange(rows):
        p = asking[i]
        core, own = cores[p], of[p]
        for first in range(0, count, BLOCK):
            last = min(count, first + BLOCK)
            edge, hits = limit[i], 0
            for c in range(first, last):
                hits += (other_low[c] - (tile[i, c] + tile[i, c]) <= edge) & (other_of[c] != own)
            if hits == 0:
                continue
            for c in range(first, last):
                q = others[c]
                if other_of[c] == own or not other_low[c] - (tile[i, c] + tile[i, c]) <= limit[i]:
                    continue
                least = max(core, cores[q])
                if least > weight[i] or (least == weight[i] and q > point[i]):
                    continue
                w = max(least, np.sqrt(_squares(x, p, x, q)))
                if w < weight[i] or (w == weight[i] and q < point[i]):
                    if w < weight[i]:
                        limit[i] = _limit(w, reach[p], low[p], scale, columns, unit)
                    weight[i], point[i] = w, q
