"""Max-pooling of anchored points: winners are the anchor's, save in the few windows where they may change.

    delta'[p] = max_j (c_j + delta_j[p])        c_j = anchor_j - max_i anchor_i, in float64

Where c_j + max_p |delta_j| stays below the worst the anchor's winner can do, for every other j of a window, its
winner holds at every point of the group and delta' is the winner's delta. Nothing is added to an anchor, so
nothing cancels, and the points are never held in float64. Differences in float16 take the maximum itself, in one
pass (`polykern_kernels.narrow.pool`).
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from polykern.anchored.narrow import Narrow
from polykern_kernels import narrow

AT_ONCE = 1 << 26  # numbers of unsure windows that a device holds together
PLANES = (F.max_pool2d, torch.max_pool2d)


def max_pool2d(
    anchor: Tensor, delta: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """Anchors and differences behind a max-pool of images.

    anchor        float64|float32 (groups, channels, height, width)
    delta         float32 (groups * points, channels, height, width)
    args, kwargs  of F.max_pool2d behind its input
    returns       (groups, channels, h, w), and float32 (groups * points, channels, h, w)
    """
    options = _options(args, kwargs)
    pooled, winner = F.max_pool2d(anchor, **options, return_indices=True)
    groups, channels = anchor.shape[:2]
    points, shape = len(delta) // groups, pooled.shape[2:]
    rivals = _windows(anchor.shape[2:], shape, options).to(anchor.device)  # (windows, size); -1 outside
    rows = delta.reshape(groups, points, -1)
    plane = anchor.shape[2] * anchor.shape[3]
    first = torch.arange(channels, device=anchor.device)[:, None] * plane  # of every channel
    own = (first + winner.flatten(2)).flatten(1)  # (groups, channels * windows): places in a row
    gap = torch.where(
        rivals >= 0, anchor.flatten(2)[:, :, rivals.clamp(min=0)] - pooled.flatten(2)[..., None], -torch.inf
    )  # (groups, channels, windows, size)
    swing = torch.maximum(rows.amax(1), -rows.amin(1))  # (groups, channels * plane)
    sway = torch.where(rivals >= 0, swing.view(groups, channels, plane)[:, :, rivals.clamp(min=0)], 0)
    hold = -torch.gather(swing, 1, own).view(groups, channels, -1, 1)
    unsure = ((gap + sway > hold) & (rivals != winner.flatten(2)[..., None])).any(3)
    places = first[:, None] + rivals.clamp(min=0)  # (channels, windows, size)
    chosen = _at_once if delta.is_cuda else _by_group
    out = chosen(rows, own, gap, places, unsure)
    return pooled, out.view(groups * points, channels, *shape)


def narrow_pool2d(
    anchor: Tensor, x: Narrow, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Tensor, Narrow] | None:
    """The same for differences in float16; None for windows of more elements than the kernel takes."""
    options = _options(args, kwargs)
    pooled, plain = F.max_pool2d(anchor, **options), x.plain()
    rivals = _rivals(anchor.shape[2:], pooled.shape[2:], _hashable(options), anchor.device)
    if rivals.shape[1] > narrow.LARGEST_WINDOW:
        return None
    places = plain.rows.permute(0, 1, 3, 4, 2).flatten(2, 3)
    own, largest = (t.permute(0, 2, 3, 1).flatten(1, 2) for t in (anchor, pooled))
    rows = narrow.pool(own, largest, places, rivals, unit=plain.unit)
    rows = rows.unflatten(2, pooled.shape[2:]).permute(0, 1, 4, 2, 3)
    return pooled, Narrow(rows, plain.unit, settled=plain.settled)


@lru_cache(maxsize=64)
def _rivals(
    size: torch.Size, out: torch.Size, options: tuple[tuple[str, Any], ...], device: torch.device
) -> Tensor:
    """int32 (windows, size of a window), as `_windows` gives them; few pools and many calls."""
    return _windows(size, out, dict(options)).to(device, torch.int32)


def _hashable(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in options.items())


def _by_group(rows: Tensor, own: Tensor, gap: Tensor, places: Tensor, unsure: Tensor) -> Tensor:
    """Winners' differences, then the windows that are not sure: group by group, for a processor's caches.

    rows    float32 (groups, points, channels * plane)
    own     int64 (groups, channels * windows)      place in a row of the anchor's winner
    gap     (groups, channels, windows, size)       anchor less its window's largest
    places  int64 (channels, windows, size)         places in a row that a window looks at
    unsure  bool (groups, channels, windows)
    """
    out = torch.empty((*rows.shape[:2], own.shape[1]), dtype=rows.dtype, device=rows.device)
    for g in range(len(rows)):
        torch.index_select(rows[g], 1, own[g], out=out[g])
        where = unsure[g].nonzero(as_tuple=True)
        near = places[where]
        if len(near):
            values = rows[g][:, near.flatten()].view(-1, *near.shape) + gap[g][where].float()
            out[g][:, unsure[g].flatten()] = values.amax(2)
    return out


def _at_once(rows: Tensor, own: Tensor, gap: Tensor, places: Tensor, unsure: Tensor) -> Tensor:
    """The same in few large steps, for a device; arguments as for `_by_group`."""
    points = rows.shape[1]
    out = torch.gather(rows, 2, own[:, None].expand(-1, points, -1))
    g, c, w = unsure.nonzero(as_tuple=True)
    step = max(1, AT_ONCE // (points * places.shape[2]))
    for part in zip(g.split(step), c.split(step), w.split(step), strict=True):
        near = places[part[1:]]  # (windows, size)
        values = rows[part[0][:, None], :, near] + gap[part].float()[..., None]  # (windows, size, points)
        out[part[0], :, part[1] * places.shape[1] + part[2]] = values.amax(1)
    return out


def _options(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    defaults: dict[str, Any] = {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False}
    given = dict(zip(names, args, strict=False)) | {k: v for k, v in kwargs.items() if k in names}
    return defaults | given


def _windows(size: torch.Size, out: torch.Size, options: Mapping[str, Any]) -> Tensor:
    """int64 (windows, size of a window): places in the plane that a window looks at; -1 outside it."""
    axes = []
    for k in range(2):
        kernel, stride, padding, dilation = (
            _pair(options[n], k) for n in ("kernel_size", "stride", "padding", "dilation")
        )
        start = torch.arange(out[k])[:, None] * (stride or kernel) - padding
        place = start + torch.arange(kernel) * dilation
        axes.append(torch.where((place >= 0) & (place < size[k]), place, -1))
    row, column = axes[0][:, None, :, None], axes[1][None, :, None, :]
    places = torch.where((row >= 0) & (column >= 0), row * size[1] + column, -1)
    return places.reshape(out[0] * out[1], -1)


def _pair(x: Any, k: int) -> int:
    if x is None or (isinstance(x, (tuple, list)) and not x):
        return 0
    return int(x[k % len(x)]) if isinstance(x, (tuple, list)) else int(x)
