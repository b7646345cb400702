"""Max-pools: which element of its window wins."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

INDEXED: dict[Any, Any] = {  # a pooling call -> the call that also gives the winners' places in the input
    **dict.fromkeys((F.max_pool1d, F.max_pool1d_with_indices, torch.max_pool1d), F.max_pool1d_with_indices),
    **dict.fromkeys((F.max_pool2d, F.max_pool2d_with_indices, torch.max_pool2d), F.max_pool2d_with_indices),
    **dict.fromkeys((F.max_pool3d, F.max_pool3d_with_indices, torch.max_pool3d), F.max_pool3d_with_indices),
}
AXES: dict[Any, int] = {
    F.max_pool1d_with_indices: 1,
    F.max_pool2d_with_indices: 2,
    F.max_pool3d_with_indices: 3,
}


def winners(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """Which element of each window a max-pool takes.

    func, args, kwargs  the torch call, one of `INDEXED`
    returns             uint8|int16|int32 (n, ..., *windows): row-major index within the window of k elements,
                        the first of equals; k where the window, padding apart, is all zeros, since then
                        any element gives the same map
    """
    names = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
    given = {**dict(zip(names, args, strict=False)), **{k: v for k, v in kwargs.items() if k in names}}
    indexed, x = INDEXED[func], given.pop("input").detach()
    axes = AXES[indexed]
    kernel = _each(given["kernel_size"], axes)
    stride = _each(given.get("stride") or kernel, axes)
    padding, dilation = _each(given.get("padding", 0), axes), _each(given.get("dilation", 1), axes)
    most, place = indexed(x, **given)
    index = torch.zeros_like(place)
    at = torch.unravel_index(place, x.shape[-axes:])
    for axis in range(axes):
        windows = torch.arange(place.shape[axis - axes], device=x.device)
        first = (windows * stride[axis] - padding[axis]).reshape(-1, *(1,) * (axes - axis - 1))
        index = index * kernel[axis] + (at[axis] - first) // dilation[axis]
    count = int(torch.Size(kernel).numel())
    least, _ = indexed(-x, **given)
    index[(most == 0) & (least == 0)] = count
    return index.to(torch.uint8 if count < 256 else torch.int16 if count < 1 << 15 else torch.int32)


def note_choices(
    choices: dict[str, Tensor],
    calls: Counter[Any],
    module: str,
    func: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> None:
    """Note what a max-pool takes, as `module:max_pool` or `module:max_pool#call`."""
    call = calls["max_pool", module]
    calls["max_pool", module] += 1
    choices[f"{module}:max_pool" + (f"#{call}" if call else "")] = winners(func, args, kwargs)


def _each(value: Any, axes: int) -> tuple[int, ...]:
    """One number an axis."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * axes if len(values) == 1 else values
