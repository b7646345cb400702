"""From a tail and the centres of some tiles to their programs."""

from typing import Any

import torch
from torch import Tensor

from polykern.carrier import NotCarried
from polykern.tail import Meeting, Tail
from polykern.tiles import kinks, pools
from polykern.tiles.bundle import Bundle, bundle_of, gamma
from polykern.tiles.forms import SYMBOLS, Forms


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
    tiles = len(centres)
    bundle = bundle_of(tiles, half, limit, tail.layout.bits, centres.device)
    forms = _entrance(bundle, centres, du, dv)
    if astray is not None:
        forms.error = forms.error + astray
    index = {f: i for i, f in enumerate(tail.layout.fields)}

    def reach(met: Meeting) -> Any:
        if isinstance(met.z, Tensor):  # a branch beside the start: the same everywhere
            if met.field is not None:
                kinks.note_constants(bundle, met.z[0].flatten(), met.field)
            return met.proceed()
        number = -1 if met.field is None else index[met.field]
        return kinks.activate(met.z, met.activation, met.field, number)

    out = tail.run(forms, reach, output=classes)
    if classes:
        if not isinstance(out, Forms):
            raise NotCarried("the output does not depend on the points")
        pools.classify(out)
    return bundle


def _entrance(bundle: Bundle, centres: Tensor, du: Tensor, dv: Tensor) -> Forms:
    """1, u, v: the forms of the points themselves."""
    rows = torch.stack([centres, du.expand_as(centres), dv.expand_as(centres)], 1).flatten(0, 1)
    key = (bundle.numbers()[:, None] * SYMBOLS + torch.arange(3, device=bundle.device)).flatten()
    size = centres.abs() + bundle.half[0] * du.abs() + bundle.half[1] * dv.abs()
    return Forms(bundle, rows.contiguous(), key, gamma(4) * size, size)
