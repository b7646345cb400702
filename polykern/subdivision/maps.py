"""The affine map of a face, in the coordinates of the plane."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import forward_ad

from polykern.errors import UsageError
from polykern.plane import Plane
from polykern.tail import Tail


def affine(tail: Tail, plane: Plane, at: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
    """What a network does with the points of a plane around one of them.

    tail     float64
    plane    the plane
    at       float64 (2)   (u, v), a point that is on no boundary
    returns  float64 (*output_shape, 2) A and float64 (*output_shape) c: the output at (u, v) is A (u, v) + c

    The network is run for the point twice, with the tangents e1 and e2. Raises UsageError where the output is not
    one tensor.
    """
    point = plane.points(torch.from_numpy(at)[None]).expand(2, *plane.origin.shape)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(point, torch.stack([plane.e1, plane.e2]))
        out = tail.run(dual, lambda met: met.proceed())
        if not isinstance(out, Tensor):
            raise UsageError("the output is not one tensor, so a face has no map", fix="name a module as stop")
        value, slope = forward_ad.unpack_dual(out)
    value = value[0]
    slopes = torch.zeros(*value.shape, 2, dtype=torch.float64) if slope is None else slope.movedim(0, -1)
    return slopes.contiguous(), value - slopes @ torch.from_numpy(at)
