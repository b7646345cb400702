"""`pk.partition`: from a model and three inputs to the polygons of its polytopes."""

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from torch import Tensor

from polykern.errors import UsageError
from polykern.heat import prepare
from polykern.maps.compute import Recipe
from polykern.models import Subject
from polykern.plane import Window
from polykern.progress import Progress
from polykern.selectors import Select
from polykern.subdivision.columns import Columns, Files, Memory
from polykern.subdivision.front import Front
from polykern.subdivision.pieces import pieces
from polykern.subdivision.result import SCHEMA, Partition
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
    out: Path | str | None = None,
    overwrite: bool = False,
    regions: int = REGIONS,
    seconds: float = float("inf"),
    progress: Progress | None = None,
) -> Partition:
    """The exact partition of a window of a plane by a piecewise-linear network.

    subject    a network and its data: `polykern.load(...)`, or `Subject(...)` of your own
    inputs     three examples (numbers or files), whose activations at `start` the plane goes through; or three
               points, float (3, *shape), in the input space of `start`; None: the subject's own three
    start      module into whose input space the plane is laid; None: the subject's own, "" the model's input
    stop       module after whose output the code ends; "" the model's output
    select     which nonlinearities make the code; the others bend the boundaries and are sides of faces too
    window     square of the plane, L2 units; None: the bounding box of the points and half of it on every side
    zoom       magnifies the window about its centre
    classes    also cut where the argmax of the output changes
    out        folder into which faces are written as they are found: a partition may be larger than memory
    overwrite  replace a partition in that folder
    regions    pieces after which to stop
    seconds    after which to stop
    progress   called with (stage, done, total)
    returns    a `Partition`; where a budget ran out it says so and holds the tiles that were done
    errors     UsageError naming an operator that is not piecewise linear; ResourceError when the disk is full

    Exact in float64: each face is one linear region of the network up to the last selected nonlinearity, max-pool
    choices included, but for slivers thinner than a boundary's rounding error or 1e-12 of a tile. Linear,
    convolution, normalisation in eval mode, pools, residuals, concatenation and every piecewise-linear activation
    are followed.
    The same faces in the same order for any number of threads, in memory and in a folder. Memory beside the result
    is that of some hundred tiles and of the faces at the border of what is done. Hanin, Rolnick 2019, "Complexity
    of Linear Regions in Deep Networks"; Black et al. 2022, "Interpreting Neural Networks through the Polytope
    Lens".
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
    if classes and (recipe.tail.output_shape is None or len(recipe.tail.output_shape) != 1):
        raise UsageError("the output is not a vector, so it has no class", fix="--no-classes")
    with ExitStack() as stack:
        files = None if out is None else stack.enter_context(Files(Path(out), overwrite=overwrite))
        columns: Columns = files or Memory()
        told = _cut(recipe, columns, classes, regions, seconds, progress)
        found = Partition(
            about=_about(recipe, classes) | told, plane=recipe.grid.plane, tail=recipe.tail, **columns.close()
        )
        if files is not None:
            files.finish(recipe.grid.plane.anchors.numpy(), found.summary())
    return found


def _cut(
    recipe: Recipe, columns: Columns, classes: bool, regions: int, seconds: float, progress: Progress | None
) -> dict[str, Any]:
    """Put the faces of a window into columns; what there is to say about how it went."""
    began, count, covered = time.perf_counter(), 0, 0.0
    window = recipe.grid.window
    front = Front(window.side)
    with closing(pieces(recipe.tail, recipe.grid.plane, window, classes=classes)) as stream:
        for covered, found in stream:
            columns.add(front.add(found))
            count += len(found.area)
            if progress:
                progress("tiles", round(1e4 * covered), 10_000)
            if count > regions or time.perf_counter() - began > seconds:
                break
    columns.add(front.rest())
    return {
        "complete": covered == 1.0,
        "covered": covered,
        "pieces": count,
        "unmatched": {"seams": front.torn, "sides": front.alone},
        "seconds": time.perf_counter() - began,
    }


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
