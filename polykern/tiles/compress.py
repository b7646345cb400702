"""From a tail and the centres of some tiles to their programs."""

from typing import Any

import torch
from torch import Tensor

from polykern.arithmetic import gamma
from polykern.carrier import NotCarried
from polykern.tail import Meeting, Tail
from polykern.tiles import kinks, pools
from polykern.tiles.bundle import Bundle, bundle_of
from polykern.tiles.forms import SYMBOLS, Forms

POINT = 64  # symbols of a point: boundaries that it is too near to for a certain sign


def compress(
    tail: Tail, centres: Tensor, du: Tensor, dv: Tensor, half: tuple[float, float], *, limit: int, classes: bool,
    astray: Tensor | None = None,
) -> Bundle:  # fmt: skip
    """Send tiles of a plane through a network as affine forms.

    tail     float64 (`tail.to(torch.float64, device)`)
    centres  float64 (tiles, *input_shape)   the tiles' centre points, on the device that compresses
    du, dv   float64 (*input_shape)          one pixel along u and along v; or (tiles, *input_shape), of each tile
    half     (u, v): half the extent of a tile, pixels
    limit    symbols beyond which a tile is given up
    classes  also compare the outputs
    astray   float64 (tiles, *input_shape)   bounds how far the points are from where they are meant to be
    returns  the bundle: `.programs()`, and `.alive` for the tiles that were not given up
    errors   NotCarried names the first operator that is not piecewise linear
    """
    bundle = bundle_of(len(centres), half, limit, tail.layout.bits, centres.device)
    forms = entrance(bundle, centres, du, dv)
    if astray is not None:
        forms.error = forms.error + astray
    out = _sent(tail, forms, output=classes)
    if classes:
        if not isinstance(out, Forms):
            raise NotCarried("the output does not depend on the points")
        pools.classify(out)
    return bundle


def affine(tail: Tail, points: Tensor, du: Tensor, dv: Tensor) -> Tensor:
    """The output at points, and its derivatives along two directions.

    tail     float64
    points   float64 (n, *input_shape)
    du, dv   float64 (*input_shape)
    returns  float64 (n, 3, *output_shape)   value, derivatives along du and along dv: on the side of each kink that
             the point is computed to be on
    errors   NotCarried names the first operator that is not piecewise linear
    """
    bundle = bundle_of(len(points), (0.0, 0.0), POINT, tail.layout.bits, points.device)
    out = _sent(tail, entrance(bundle, points, du, dv), output=True)
    if isinstance(out, Tensor):  # the same everywhere
        return torch.stack([out, 0.0 * out, 0.0 * out], 1).expand(len(points), 3, *out.shape[1:])
    if not isinstance(out, Forms) or not bundle.alive.all():
        raise NotCarried("the output is not one tensor, or a point lies on too many boundaries")
    kept = out.symbol < 3  # 1, u, v; the others are 0 at the point
    found = out.rows.new_zeros((len(points), 3, *out.rows.shape[1:]))
    found[out.tile[kept], out.symbol[kept]] = out.rows[kept]
    return found


def _sent(tail: Tail, forms: Forms, *, output: bool) -> Any:
    """What comes out of the network; its kinks are written into the bundle of the forms."""
    bundle = forms.bundle
    index = {f: i for i, f in enumerate(tail.layout.fields)}

    def reach(met: Meeting) -> Any:
        if isinstance(met.z, Tensor):  # a branch beside the start: the same everywhere
            if met.field is not None:
                kinks.note_constants(bundle, met.z[0].flatten(), met.field)
            return met.proceed()
        number = -1 if met.field is None else index[met.field]
        return kinks.activate(met.z, met.activation, met.field, number)

    return tail.run(forms, reach, output=output)


def entrance(bundle: Bundle, centres: Tensor, du: Tensor, dv: Tensor) -> Forms:
    """1, u, v: the forms of the points themselves."""
    rows = torch.stack([centres, du.expand_as(centres), dv.expand_as(centres)], 1).flatten(0, 1)
    key = (bundle.numbers()[:, None] * SYMBOLS + torch.arange(3, device=bundle.device)).flatten()
    size = centres.abs() + bundle.half[0] * du.abs() + bundle.half[1] * dv.abs()
    return Forms(bundle, rows.contiguous(), key, gamma(4) * size, size)
