"""LayerNorm and RMSNorm on a plane: three dot products a neuron and one symbol for all of them.

On a tile without symbols, x - mean(x) is affine in (u, v) and its square length a quadratic Q(u, v). Behind the
norm every value is  (affine + bias s) / s  with  s = sqrt(Q / d + eps) > 0: the values times s are affine forms in
(u, v) and the one symbol s, and signs, ReLUs and argmaxes do not see the factor.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from polykern.arithmetic import gamma
from polykern.carrier import NotCarried
from polykern.tiles.bundle import ONE, Instructions, U, V
from polykern.tiles.forms import SYMBOLS, Forms
from polykern_kernels.program import NORM

NORMS = (F.layer_norm, torch.rms_norm, F.rms_norm)
LEAST = 1e-100  # a norm that may be 0 certifies nothing


def normalise(x: Forms, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Forms:
    """The forms behind a norm over all units, scaled by the norm symbol."""
    shape = tuple(args[1] if len(args) > 1 else kwargs["normalized_shape"])
    weight = args[2] if len(args) > 2 else kwargs.get("weight")
    centred = func is F.layer_norm
    at = 3 if centred else 2
    bias = (args[3] if len(args) > 3 else kwargs.get("bias")) if centred else None
    eps = args[at + 1] if len(args) > at + 1 else kwargs.get("eps")
    eps = torch.finfo(torch.float64).eps if eps is None else eps
    if x.scaled or bool((x.symbol > V).any()) or shape != tuple(x.shape[1:]):
        raise NotCarried("a norm that is not the first nonlinearity, or not over all units")
    rows = x.rows.flatten(1)
    if centred:
        rows = rows - rows.mean(1, keepdim=True)
    dims = rows.shape[1]
    size = x.size_.flatten(1) + x.size_.flatten(1).mean(1, keepdim=True)
    error = x.error.flatten(1) + x.error.flatten(1).mean(1, keepdim=True) + gamma(dims) * size
    spread = error.square().mean(1).sqrt()  # what the errors of all units do to the norm
    low, high = _norm_symbol(x, rows, float(eps), spread)
    wrong = spread / low + gamma(2 * dims) * (high / low).square()  # of the norm at most, relative to it
    error = error + wrong[:, None] * size.minimum(dims**0.5 * high[:, None])
    bundle, tiles = x.bundle, x.bundle.tiles
    symbol = int(bundle.count[0])
    bundle.low[:, symbol], bundle.high[:, symbol] = low, high
    bundle.scale.fill_(symbol)
    bundle.count += 1
    gain = rows.new_ones(dims) if weight is None else weight.detach().double().flatten()
    last = rows.new_zeros(dims) if bias is None else bias.detach().double().flatten()
    key, order = torch.sort(torch.cat([x.key, bundle.numbers() * SYMBOLS + symbol]))
    stacked = torch.cat([rows * gain, last.expand(tiles, -1)])[order]
    bound = last.abs() * high[:, None]
    size, error = size * gain.abs() + bound, error * gain.abs() + gamma(2 * dims) * (size * gain.abs() + bound)
    units = x.rows.shape[1:]
    return Forms(
        bundle,
        stacked.unflatten(1, units),
        key,
        error.unflatten(1, units),
        size.unflatten(1, units),
        scaled=True,
    )


def _norm_symbol(x: Forms, rows: Tensor, eps: float, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Write s = sqrt(Q(u, v) / d + eps) for every tile; gives the certified interval of it, computed and true."""
    tiles, dims = x.bundle.tiles, rows.shape[1]
    basis = [rows.new_zeros((tiles, dims)) for _ in range(3)]
    for symbol in (ONE, U, V):
        here = x.symbol == symbol
        basis[symbol][x.tile[here]] = rows[here]
    one, u, v = basis
    products = [one * one, 2 * one * u, 2 * one * v, u * u, 2 * u * v, v * v]
    terms = torch.stack([p.sum(1) / dims for p in products], 1)
    terms[:, 0] += eps
    half_u, half_v = x.bundle.half
    # |s at a point - s at the centre| is at most the length of the step, over sqrt(d)
    step = (half_u * u.norm(dim=1) + half_v * v.norm(dim=1)) / dims**0.5
    centre = terms[:, 0].sqrt()
    low, high = (centre - step).clamp(min=max(eps**0.5, LEAST)), centre + step
    slack = spread + gamma(8 * dims) * high.square() / low  # roundings are of the square
    bundle = x.bundle
    bundle.written.append(
        Instructions(
            tile=bundle.numbers(),
            kind=torch.full_like(bundle.scale, NORM, dtype=torch.int8),
            target=bundle.count.int(),
            field=torch.full_like(bundle.scale, -1),
            key=torch.zeros_like(bundle.digest),
            tolerance=torch.zeros_like(bundle.margin),
            first=torch.arange(tiles + 1, device=rows.device) * 6,
            term=torch.arange(6, dtype=torch.int32, device=rows.device).repeat(tiles),
            coefficient=terms.flatten(),
        )
    )
    return (low - slack).clamp(min=LEAST), high + slack
