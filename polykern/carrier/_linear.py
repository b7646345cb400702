"""What torch's linear operators mean for a carrier: each call becomes one `Linear`."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from polykern.carrier._carrier import RULES, Carrier, Linear, NotCarried, rule


def _rearranged(x: Carrier, f: Callable[[Tensor], Tensor]) -> Carrier:
    return x.apply(Linear(lambda rows, _: f(rows)))


# --- weights ----------------------------------------------------------------------------------


def _conv(func: Any, axes: int) -> Callable[..., Any]:
    def conv(x: Any, weight: Any, bias: Any = None, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(x, Carrier) or isinstance(weight, Carrier):
            return NotImplemented
        shaped = None if bias is None else bias.detach().reshape(-1, *(1,) * axes)
        op = lambda rows, w: func(rows, w, None, *args, **kwargs)  # noqa: E731
        terms = weight[0].numel() * _overlap(func, weight)
        plain = _plain(*args, **kwargs) if func is F.conv2d else None
        return x.apply(Linear(op, weight.detach(), shaped, terms, plain))

    return conv


def _plain(stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Any:
    """(stride, padding, dilation) in pairs, or None for grouped and for named paddings."""
    if groups != 1 or isinstance(padding, str):
        return None
    return tuple((p, p) if isinstance(p, int) else (tuple(p) * 2)[:2] for p in (stride, padding, dilation))


def _overlap(func: Any, weight: Tensor) -> int:
    """A transposed convolution sums over its input channels too."""
    return weight.shape[0] if "transpose" in func.__name__ else 1


for _func, _axes in (
    (F.conv1d, 1),
    (F.conv2d, 2),
    (F.conv3d, 3),
    (F.conv_transpose1d, 1),
    (F.conv_transpose2d, 2),
):
    RULES[_func] = _conv(_func, _axes)


@rule(F.linear)
def _linear(x: Any, weight: Any, bias: Any = None) -> Any:
    if not isinstance(x, Carrier) or isinstance(weight, Carrier):
        return NotImplemented
    return x.apply(Linear(F.linear, weight.detach(), None if bias is None else bias.detach(), weight.shape[-1]))


@rule(torch.addmm)
def _addmm(bias: Any, x: Any, weight: Any) -> Any:
    if not isinstance(x, Carrier) or x.ndim != 2:
        return NotImplemented
    return x.apply(Linear(torch.matmul, weight.detach(), bias.detach(), weight.shape[0]))


@rule(torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__)
def _matmul(x: Any, weight: Any) -> Any:
    if not isinstance(x, Carrier) or not isinstance(weight, Tensor) or weight.ndim != 2:
        return NotImplemented
    return x.apply(Linear(torch.matmul, weight.detach(), None, weight.shape[0]))


@rule(F.batch_norm)
def _batch_norm(
    x: Any,
    mean: Any,
    var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    if training or mean is None:
        raise NotCarried("batch_norm in training mode makes codes depend on the batch")
    gain = torch.rsqrt(var.double() + eps)  # folded in float64, cast once
    if weight is not None:
        gain = gain * weight.detach().double()
    shift = -mean.double() * gain
    if bias is not None:
        shift = shift + bias.detach().double()
    shape = (-1, *(1,) * (x.ndim - 2))
    gain, shift = (t.to(var.dtype).reshape(shape) for t in (gain, shift))
    return x.apply(Linear(torch.mul, gain, shift, 1))


# --- averages and sums over axes behind the batch -----------------------------------------------


def _avg_pool(func: Any, axes: int) -> Callable[..., Any]:
    def pool(x: Any, *args: Any, **kwargs: Any) -> Any:
        kernel = args[0] if args else kwargs["kernel_size"]
        sides = (kernel,) if isinstance(kernel, int) else tuple(kernel)
        area = torch.Size(sides * axes if len(sides) == 1 else sides).numel()
        return x.apply(Linear(lambda rows, _: func(rows, *args, **kwargs), terms=area))

    return pool


def _adaptive(func: Any, axes: int) -> Callable[..., Any]:
    def pool(x: Any, output_size: Any) -> Any:
        return x.apply(Linear(lambda rows, _: func(rows, output_size), terms=x.shape[-axes:].numel()))

    return pool


rule(F.avg_pool1d)(_avg_pool(F.avg_pool1d, 1))
rule(F.avg_pool2d)(_avg_pool(F.avg_pool2d, 2))
rule(F.avg_pool3d)(_avg_pool(F.avg_pool3d, 3))
rule(F.adaptive_avg_pool1d)(_adaptive(F.adaptive_avg_pool1d, 1))
rule(F.adaptive_avg_pool2d)(_adaptive(F.adaptive_avg_pool2d, 2))
rule(F.adaptive_avg_pool3d)(_adaptive(F.adaptive_avg_pool3d, 3))


def _reduction(func: Any) -> Callable[..., Any]:
    def reduce(x: Any, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Any:
        axes = [dim] if isinstance(dim, int) else list(dim or ())
        if not axes or any(a % x.ndim == 0 for a in axes):
            raise NotCarried(f"{func.__name__} over the batch axis")
        count = torch.Size(x.shape[a] for a in axes).numel()
        return x.apply(Linear(lambda rows, _: func(rows, dim, keepdim=keepdim), terms=count))

    return reduce


rule(torch.mean, torch.Tensor.mean)(_reduction(torch.mean))
rule(torch.sum, torch.Tensor.sum)(_reduction(torch.sum))


# --- arithmetic with constants and with each other ------------------------------------------------


def _row(constant: Tensor, like: Carrier) -> Tensor:
    """A constant as it meets one row: the batch axis, which must be 1, is dropped."""
    constant = constant.detach()
    if constant.ndim < like.ndim:
        return constant
    if constant.shape[0] != 1:
        raise NotCarried("a constant that differs from point to point")
    return constant[0]


@rule(torch.add, torch.Tensor.add, torch.Tensor.__add__, torch.Tensor.__radd__)
def _add(x: Any, y: Any, *, alpha: float = 1) -> Any:
    if not isinstance(x, Carrier):
        x, y = (y, x) if alpha == 1 else (_scaled(y, alpha), x)
        alpha = 1
    if isinstance(y, Carrier):
        return type(x).combine([x, y], lambda p: torch.add(p[0], p[1], alpha=alpha), 2)
    bias = _row(_exactly(y), x) * alpha
    return x.apply(Linear(lambda rows, _: rows.expand(len(rows), *_broadcast(x, bias)), None, bias, 1))


def _exactly(y: Any) -> Tensor:
    """A constant as a tensor; a Python number keeps its float64."""
    return y if isinstance(y, Tensor) else torch.as_tensor(y, dtype=torch.float64)


def _broadcast(x: Carrier, row: Tensor) -> tuple[int, ...]:
    return tuple(torch.empty(x.shape[1:], device="meta").add(torch.empty(row.shape, device="meta")).shape)


@rule(torch.Tensor.add_, torch.Tensor.__iadd__)
def _add_in_place(x: Any, y: Any, *, alpha: float = 1) -> Any:
    total = _add(x, y, alpha=alpha)
    if isinstance(x, Carrier):
        x.become(total)
    return total  # a constant cannot become points: `x += y` binds the name x to what is returned


@rule(torch.sub, torch.Tensor.sub, torch.Tensor.__sub__)
def _sub(x: Any, y: Any, *, alpha: float = 1) -> Any:
    return _add(x, _scaled(y, -alpha) if isinstance(y, Carrier) else -alpha * _exactly(y))


@rule(torch.rsub, torch.Tensor.__rsub__)
def _rsub(x: Any, y: Any) -> Any:
    return _add(_scaled(x, -1.0), y)


@rule(torch.neg, torch.Tensor.neg, torch.Tensor.__neg__)
def _neg(x: Any) -> Any:
    return _scaled(x, -1.0)


def _scaled(x: Carrier, factor: float) -> Carrier:
    return x.apply(Linear(lambda rows, _: rows * factor, terms=0 if abs(factor) == 1 else 1))


@rule(torch.mul, torch.Tensor.mul, torch.Tensor.__mul__, torch.Tensor.__rmul__)
def _mul(x: Any, y: Any) -> Any:
    if isinstance(x, Carrier) and isinstance(y, Carrier):
        return NotImplemented
    if not isinstance(x, Carrier):
        x, y = y, x
    if not isinstance(y, Tensor):
        return _scaled(x, float(y))
    return x.apply(Linear(torch.mul, _row(y, x), None, 1))


@rule(torch.div, torch.Tensor.div, torch.Tensor.__truediv__)
def _div(x: Any, y: Any, *, rounding_mode: str | None = None) -> Any:
    if isinstance(y, Carrier) or rounding_mode is not None:
        return NotImplemented
    if not isinstance(y, Tensor):
        return x.apply(Linear(lambda rows, _: rows / float(y), terms=1))
    return x.apply(Linear(torch.mul, 1 / _row(y, x), None, 2))


@rule(torch.cat, torch.concat)
def _cat(parts: Sequence[Any], dim: int = 0) -> Any:
    first = next(p for p in parts if isinstance(p, Carrier))
    if dim % first.ndim == 0:
        raise NotCarried("concatenation along the batch axis")
    return type(first).combine(list(parts), lambda p: torch.cat(p, dim), 0)


# --- rearrangements --------------------------------------------------------------------------------


@rule(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout)
def _dropout(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    if training:
        raise NotCarried("dropout in training mode")
    return x


@rule(*(getattr(torch.Tensor, n) for n in ("contiguous", "detach", "to", "float", "double", "type_as")))
def _same(x: Any, *args: Any, **kwargs: Any) -> Any:
    return x


@rule(torch.clone, torch.Tensor.clone)
def _clone(x: Any, *args: Any, **kwargs: Any) -> Any:
    return _rearranged(x, lambda rows: rows)  # in-place operators on it must not reach x


@rule(torch.flatten, torch.Tensor.flatten)
def _flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    if start_dim % x.ndim == 0:
        raise NotCarried("flattening the batch axis")
    return _rearranged(x, lambda rows: rows.flatten(start_dim, end_dim))


@rule(torch.reshape, torch.Tensor.view, torch.Tensor.reshape)
def _reshape(x: Any, *sizes: Any, shape: Any = ()) -> Any:
    sizes = sizes or (shape,)
    wanted = list(sizes[0]) if len(sizes) == 1 and not isinstance(sizes[0], int) else list(sizes)
    keeps = -1 in wanted[1:] or torch.Size(wanted[1:]).numel() == x.shape[1:].numel()
    if wanted[0] not in (-1, x.shape[0]) or not keeps:
        raise NotCarried(f"a view of {list(x.shape)} as {wanted}, which mixes points")
    return _rearranged(x, lambda rows: rows.reshape(len(rows), *wanted[1:]))


@rule(torch.permute, torch.Tensor.permute)
def _permute(x: Any, *dims: Any) -> Any:
    order = list(dims[0]) if len(dims) == 1 and not isinstance(dims[0], int) else list(dims)
    if order[0] % x.ndim != 0:
        raise NotCarried("moving the batch axis")
    return _rearranged(x, lambda rows: rows.permute(order))


@rule(torch.transpose, torch.Tensor.transpose)
def _transpose(x: Any, a: int, b: int) -> Any:
    if 0 in (a % x.ndim, b % x.ndim):
        raise NotCarried("moving the batch axis")
    return _rearranged(x, lambda rows: rows.transpose(a, b))


@rule(torch.squeeze, torch.Tensor.squeeze)
def _squeeze(x: Any, dim: Any = None) -> Any:
    axes = [k for k in range(1, x.ndim) if x.shape[k] == 1] if dim is None else dim
    return _rearranged(x, lambda rows: rows.squeeze(axes))


@rule(torch.unsqueeze, torch.Tensor.unsqueeze)
def _unsqueeze(x: Any, dim: int) -> Any:
    if dim % (x.ndim + 1) == 0:
        raise NotCarried("a new axis before the batch axis")
    return _rearranged(x, lambda rows: rows.unsqueeze(dim))


@rule(torch.Tensor.__getitem__)
def _getitem(x: Any, index: Any) -> Any:
    index = index if isinstance(index, tuple) else (index,)
    if index[0] != slice(None) and index[0] is not Ellipsis:
        raise NotCarried("indexing the batch axis")
    return _rearranged(x, lambda rows: rows[index])


@rule(torch.chunk, torch.Tensor.chunk)
def _chunk(x: Any, chunks: int, dim: int = 0) -> Any:
    return _parts(x, lambda rows: rows.chunk(chunks, dim), dim)


@rule(torch.split, torch.Tensor.split)
def _split(x: Any, sizes: Any, dim: int = 0) -> Any:
    return _parts(x, lambda rows: torch.split(rows, sizes, dim), dim)


def _parts(x: Carrier, f: Callable[[Tensor], Sequence[Tensor]], dim: int) -> tuple[Carrier, ...]:
    if dim % x.ndim == 0:
        raise NotCarried("parts of the batch axis")
    count = len(f(torch.empty(x.shape, device="meta")))
    return tuple(_rearranged(x, partial(_part, f, k)) for k in range(count))


def _part(f: Callable[[Tensor], Sequence[Tensor]], k: int, rows: Tensor) -> Tensor:
    return f(rows)[k]


@rule(F.pad)
def _pad(x: Any, pad: Any, mode: str = "constant", value: Any = None) -> Any:
    if mode == "constant" and value not in (None, 0, 0.0):
        raise NotCarried("padding with a constant other than 0")
    if any(pad[2 * (x.ndim - 1) :]):
        raise NotCarried("padding of the batch axis")
    return _rearranged(x, lambda rows: F.pad(rows, pad, mode=mode))


@rule(F.interpolate)
def _interpolate(x: Any, *args: Any, **kwargs: Any) -> Any:
    if kwargs.get("mode", "nearest") not in ("nearest", "nearest-exact", "linear", "bilinear", "trilinear", "area"):
        return NotImplemented  # its weights are not all positive, so |weight| is not itself
    return x.apply(Linear(lambda rows, _: F.interpolate(rows, *args, **kwargs), terms=16))


@rule(F.pixel_shuffle)
def _pixel_shuffle(x: Any, factor: int) -> Any:
    return _rearranged(x, lambda rows: F.pixel_shuffle(rows, factor))
