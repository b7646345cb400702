"""Max-pools and argmaxes on affine forms: a window passes its winner at the tile's centre plus, where a rival can
overtake it inside the tile, the symbol e = max(0, rivals - winner)."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from polykern.carrier import NotCarried
from polykern.tiles.bundle import ONE, Instructions
from polykern.tiles.forms import SYMBOLS, Forms
from polykern.tiles.kinks import merged
from polykern_kernels import forms as kernels
from polykern_kernels.program import CLASS, RIVAL


def max_pool(
    x: Forms, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, **kwargs: Any
) -> Forms:
    """The forms behind a max-pool of one, two or three axes."""
    if kwargs.pop("return_indices", False):
        raise NotCarried("max_pool with return_indices")
    ceil_mode = bool(kwargs.get("ceil_mode"))
    return _pooled(
        x, *windows(tuple(x.shape[1:]), kernel_size, stride or kernel_size, padding, dilation, ceil_mode)
    )


def adaptive_max_pool(x: Forms, output_size: Any, return_indices: bool = False) -> Forms:
    """The forms behind an adaptive max-pool."""
    if return_indices:
        raise NotCarried("adaptive_max_pool with return_indices")
    channels, *space = x.shape[1:]
    sizes = [n if o is None else o for n, o in zip(space, _tuple(output_size, len(space)), strict=True)]
    lines = [_adaptive_line(n, o) for n, o in zip(space, sizes, strict=True)]
    return _pooled(x, *_crossed(channels, space, lines))


def _adaptive_line(size: int, outputs: int) -> Tensor:
    """int64 (outputs, widest): the inputs of each output along one axis, -1 where there are fewer."""
    spans = [(o * size // outputs, -(-(o + 1) * size // outputs)) for o in range(outputs)]
    widest = max(b - a for a, b in spans)
    return torch.tensor([[a + k if a + k < b else -1 for k in range(widest)] for a, b in spans])


def _pooled(x: Forms, members: Tensor, shape: torch.Size) -> Forms:
    x = x.without_dead()
    members = members.to(x.rows.device)
    rows, ptr = x.rows.flatten(1).contiguous(), x.ptr
    low, high = x.bounds
    floor, ceiling = _interval(x, rows)
    winner, rise = kernels.pool_rivals(rows, ptr, low, high, members, floor, ceiling)
    size, error = x.size_.flatten(1), x.error.flatten(1)
    inside = members.clamp(min=0).flatten()
    count = (len(x.size_), *members.shape)
    slack = 2 * x.bundle.rounding * (size[:, inside].reshape(count) + size.gather(1, winner)[..., None])
    loose = rise > 0.75 * slack  # what is left out rises by no more than slack, the rounding of rise with it
    undecided = loose.any(2).nonzero()
    tile, window = undecided.unbind(1)
    reach = torch.where(loose, rise + slack, 0.0).amax(2)[tile, window]
    kept, number = x.bundle.new_symbols(tile.contiguous(), reach)
    tile, window = tile[kept], window[kept]
    _write(x, rows, RIVAL, loose, members, winner, tile, window, number)

    best = rows.gather(1, winner[x.tile])
    nonzero = best.any(1) | (x.symbol == ONE)  # every tile keeps its constant
    key, source, order = merged(x, nonzero, tile * SYMBOLS + number)
    one = torch.ones_like(winner, dtype=torch.float64)
    out = kernels.rescale(
        best, source, key // SYMBOLS, one, window[order], torch.ones_like(window[order], dtype=torch.float64)
    )
    member_error = torch.where(members >= 0, error[:, inside].reshape(count), 0.0).amax(2)
    new_size = size.gather(1, winner)
    new_size[tile, window] += reach[kept]
    new_error = member_error + slack.amax(2)
    new_floor, new_ceiling = (
        torch.where(members >= 0, b[:, inside].reshape(count), -torch.inf).amax(2) for b in (floor, ceiling)
    )
    return Forms(
        x.bundle,
        out.unflatten(1, shape),
        key,
        new_error.unflatten(1, shape),
        new_size.unflatten(1, shape),
        interval=(
            (new_floor - slack.amax(2)).unflatten(1, shape),
            (new_ceiling + slack.amax(2)).unflatten(1, shape),
        ),
        scaled=x.scaled,
    )


def classify(x: Forms) -> None:
    """Write the argmax of the output into the bundle: the winner at each centre and its rivals."""
    x = x.without_dead()
    rows, ptr = x.rows.flatten(1).contiguous(), x.ptr
    low, high = x.bounds
    floor, ceiling = _interval(x, rows)
    members = torch.arange(rows.shape[1], device=rows.device)[None]
    winner, rise = kernels.pool_rivals(rows, ptr, low, high, members, floor, ceiling)
    x.bundle.winner = winner[:, 0].int()
    loose = (rise >= 0) & x.bundle.alive[:, None, None]
    tile = loose.any(2).nonzero()[:, 0]
    none = torch.full_like(tile, -1)
    _write(x, rows, CLASS, loose, members, winner, tile, torch.zeros_like(tile), none)


def _interval(x: Forms, rows: Tensor) -> tuple[Tensor, Tensor]:
    if x.interval is not None:
        return x.interval[0].flatten(1), x.interval[1].flatten(1)
    low, high, size = kernels.ranges(rows, x.ptr, *x.bounds)
    slack = x.bundle.rounding * size
    return low - slack, high + slack


def _write(
    x: Forms,
    rows: Tensor,
    kind: int,
    loose: Tensor,
    members: Tensor,
    winner: Tensor,
    tile: Tensor,
    window: Tensor,
    number: Tensor,
) -> None:
    """One instruction for every loose rival of the windows (tile, window); `number` is their symbol."""
    mine = loose[tile, window]  # bool [windows, k]
    which, member = mine.nonzero().unbind(1)
    unit = members[window[which], member]
    at = tile[which]
    first, term, coefficient = kernels.columns(rows, x.ptr, x.symbol.int(), at, unit, winner[at, window[which]])
    target = unit if kind == CLASS else number[which]
    x.bundle.written.append(
        Instructions(
            tile=at,
            kind=torch.full_like(at, kind, dtype=torch.int8),
            target=target.int(),
            field=torch.full_like(at, -1, dtype=torch.int32),
            key=at.new_zeros((len(at), 2)),
            tolerance=torch.zeros_like(at, dtype=torch.float64),
            first=first,
            term=term,
            coefficient=coefficient,
        )
    )


@functools.lru_cache(maxsize=64)
def windows(
    shape: tuple[int, ...], kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> tuple[Tensor, torch.Size]:
    """int64 (windows, k): the units of every pooling window, -1 outside; and the pool's output shape.

    shape  (channels, *space); units are numbered row-major
    """
    channels, *space = shape
    axes = len(space)
    kernel, stride, padding, dilation = (_tuple(p, axes) for p in (kernel, stride, padding, dilation))
    lines = []
    for n, k, s, p, d in zip(space, kernel, stride, padding, dilation, strict=True):
        reach = n + 2 * p - d * (k - 1) - 1
        out = (-(-reach // s) if ceil_mode else reach // s) + 1
        if ceil_mode and (out - 1) * s >= n + p:
            out -= 1  # a window must start inside the input or its left padding
        at = torch.arange(out)[:, None] * s - p + torch.arange(k) * d
        lines.append(torch.where((at >= 0) & (at < n), at, -1))
    return _crossed(channels, space, lines)


def _crossed(channels: int, space: Sequence[int], lines: Sequence[Tensor]) -> tuple[Tensor, torch.Size]:
    """Windows of the product of one line of windows an axis, for every channel."""
    axes = len(space)
    unit = torch.arange(channels).reshape(-1, *(1,) * 2 * axes)
    valid = torch.ones((), dtype=torch.bool)
    for axis, line in enumerate(lines):
        view = [1] * (1 + 2 * axes)
        view[1 + axis], view[1 + axes + axis] = line.shape
        line = line.reshape(view)
        unit = unit * space[axis] + line.clamp(min=0)
        valid = valid & (line >= 0)
    shape = torch.Size((channels, *(len(line) for line in lines)))
    return torch.where(valid, unit, -1).reshape(shape.numel(), -1), shape


def _tuple(value: Any, axes: int) -> tuple[Any, ...]:
    values: tuple[Any, ...] = (value,) if isinstance(value, int) else tuple(value)
    return values * axes if len(values) == 1 else values
