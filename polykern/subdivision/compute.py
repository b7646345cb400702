"""`pk.partition`: from a model and three inputs to the polygons of its polytopes."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from polykern.errors import UsageError
from polykern.heat import prepare
from polykern.maps.compute import Recipe
from polykern.models import Subject
from polykern.plane import Plane, Window
from polykern.selectors import Select
from polykern.subdivision import seams
from polykern.subdivision.pieces import Budget, Pieces, Progress, pieces
from polykern.subdivision.result import SCHEMA, Partition
from polykern.tail import Tail
from polykern.versions import recorded

RECORDED = ("polykern", "torch", "numpy", "numba")
REGIONS = 10_000_000


def partition(
    subject: Subject,
    inputs: Sequence[str | int] | Tensor | None = None,
    *,
    start: str | None = None,
    stop: str = "",
    select: Select = "*",
    window: Window | None = None,
    zoom: float = 1.0,
    classes: bool = False,
    regions: int = REGIONS,
    seconds: float = float("inf"),
    progress: Progress | None = None,
) -> Partition:
    """The exact partition of a window of a plane by a piecewise-linear network.

    subject  a network and its data: `polykern.load(...)`, or `Subject(...)` of your own
    inputs   three examples (numbers or files), whose activations at `start` the plane goes through; or three
             points, float (3, *shape), in the input space of `start`; None: the subject's own three
    start    module into whose input space the plane is laid; None: the subject's own, "" the model's input
    stop     module after whose output the code ends; "" the model's output
    select   which nonlinearities make the code; the others bend the boundaries and are sides of faces too
    window   square of the plane, L2 units; None: the bounding box of the three points and half of it on every side
    zoom     magnifies the window about its centre
    classes  also cut where the argmax of the output changes
    regions  pieces after which to stop
    seconds  after which to stop
    returns  a `Partition`; where a budget ran out it says so and holds the tiles that were done
    errors   UsageError naming an operator that is not piecewise linear

    Exact in float64: each face is one linear region of the network up to the last selected nonlinearity, max-pool
    choices included, but for slivers that are thinner than the rounding error of a boundary. Linear, convolution,
    normalisation in eval mode, pools, residuals, concatenation and every piecewise-linear activation are followed.
    Hanin, Rolnick 2019, "Complexity of Linear Regions in Deep Networks"; Black et al. 2022, "Interpreting Neural
    Networks through the Polytope Lens".
    """
    if regions < 1 or not seconds > 0:
        raise UsageError(f"a budget of {regions} regions and {seconds:g} seconds", fix="take positive numbers")
    recipe = prepare(
        subject,
        inputs,
        start=start,
        stop=stop,
        select=select,
        window=window,
        zoom=zoom,
        resolution=2,
        classes=False,
    )
    tail, grid, side = recipe.tail, recipe.grid, recipe.grid.window.side
    if classes and (tail.output_shape is None or len(tail.output_shape) != 1):
        raise UsageError("the output is not a vector, so it has no class", fix="--no-classes")
    began = time.perf_counter()
    found, covered = pieces(
        tail, grid.plane, grid.window, classes=classes, budget=Budget(regions, seconds), progress=progress
    )
    twins = seams.twins(found, side)
    face, torn = seams.faces_of(found, twins, side)
    shared = seams.shared(found, twins, face, side)
    about = _about(recipe, classes) | {
        "complete": covered == 1.0,
        "covered": covered,
        "pieces": len(found.area),
        "unmatched": {"seams": torn, "sides": shared.alone},
        "seconds": time.perf_counter() - began,
    }
    return _gathered(about, grid.plane, tail, found, face, shared)


def _about(recipe: Recipe, classes: bool) -> dict[str, Any]:
    """What the partition is of."""
    tail, grid, about = recipe.tail, recipe.grid, recipe.about
    return {
        "schema": SCHEMA,
        "model": {"name": about["name"], "weights": about["weights"], "note": about["note"]},
        "start": tail.start,
        "stop": tail.stop or None,
        "bits": tail.layout.bits,
        "layers": [
            {"module": f.module, "call": f.call, "kind": f.kind, "bits": f.bits} for f in tail.layout.fields
        ],
        "class_names": about["classes"] if classes else None,
        "labels": about["labels"],
        "anchors": grid.plane.uv.tolist(),
        "window": [grid.window.u, grid.window.v, grid.window.side],
        "versions": recorded(*RECORDED),
    }


def _gathered(
    about: dict[str, Any], plane: Plane, tail: Tail, found: Pieces, face: seams.Indices, shared: seams.Shared
) -> Partition:
    first, corner = seams.outlines(found, face)
    one = np.unique(face, return_index=True)[1]  # a piece of each face
    return Partition(
        about=about,
        plane=plane,
        tail=tail,
        first=first,
        corner=corner,
        area=np.bincount(face, found.area).astype(np.float64),
        digest=found.digest[one],
        winner=found.winner[one],
        faces=shared.faces,
        ends=shared.ends,
        what=shared.what,
    )
