"""The pixels of a map through the network as it is, and what the codes are worth.

A plain forward pass in float32, or on a GPU with TF32 switched on for this one measurement, over a square of
neighbouring pixels; its codes are compared with those of a float64 pass. A map of codes from rounded activations is
noise: a tenth too many boundaries, or several times as many.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from polykern.arithmetic import ieee
from polykern.counting import placed
from polykern.maps.compute import Recipe
from polykern.points import codes_of
from polykern_kernels import hamming
from polykern_kernels._dispatch import Impl

_CUDNN: Any = torch.backends.cudnn
SAMPLE = 48  # pixels a side
REPETITIONS = 5


@dataclass(frozen=True, slots=True)
class Worth:
    """A pass over some pixels.

    points          pixels
    seconds         of the pass, the median of several
    wrong_bits      a point, against float64
    distance_error  of the mean distance of neighbours, relative
    """

    points: int
    seconds: float
    wrong_bits: float
    distance_error: float


Peer = Callable[[Recipe, str], Worth]


def peers(device: str) -> tuple[Impl, ...]:
    """The passes that this device can make."""
    plain = Impl("torch float32", partial(_pass, ieee), lambda *args: None)
    if device == "cpu":
        return (plain,)
    return plain, Impl("torch TF32", partial(_pass, _rounded), lambda *args: None)


def _pass(arithmetic: Callable[[], AbstractContextManager[None]], recipe: Recipe, device: str) -> Worth:
    points = _square(recipe)
    plain, true = (placed(recipe.tail, dtype, device) for dtype in (torch.float32, torch.float64))
    given = points.to(device, torch.float32)
    wait = torch.cuda.synchronize if device.startswith("cuda") else _nothing
    times = []
    with torch.no_grad(), arithmetic():
        got = codes_of(plain, given, batch=len(given)).words
        for _ in range(REPETITIONS):
            wait()
            start = time.perf_counter()
            codes_of(plain, given, batch=len(given))
            wait()
            times.append(time.perf_counter() - start)
    with ieee():
        want = codes_of(true, points.to(device)).words
    return Worth(len(points), sorted(times)[len(times) // 2], *_worth(got, want))


def _square(recipe: Recipe) -> Tensor:
    """float64 (points, *shape): pixels about the middle of the map, row by row."""
    side = min(SAMPLE, recipe.grid.resolution)
    at = torch.arange(side) + (recipe.grid.resolution - side) // 2
    rows, columns = (t.flatten() for t in torch.meshgrid(at, at, indexing="ij"))
    return recipe.grid.points(rows, columns)


def _worth(got: Tensor, want: Tensor) -> tuple[float, float]:
    """Wrong bits a point, and the relative error of the mean distance of neighbours."""
    side = round(len(got) ** 0.5)
    sums = [
        sum(float(d.sum()) for d in hamming.neighbours(x.view(side, side, -1).contiguous())) for x in (got, want)
    ]
    wrong = hamming.aligned(got.contiguous(), want.contiguous()).double().mean()
    return float(wrong), sums[0] / max(sums[1], 1.0) - 1.0


@contextmanager
def _rounded() -> Iterator[None]:
    """TF32 as a baseline: what a map must not be made of."""
    libraries: tuple[Any, ...] = (torch.backends.cuda.matmul, _CUDNN.conv)
    with ieee():  # which sets them again afterwards
        for library in libraries:
            library.fp32_precision = "tf32"
        yield


def _nothing() -> None:
    return None
