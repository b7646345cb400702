"""`pk.heatmap`: from a model and three inputs to a folder of maps."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polykern.counting import has_classes
from polykern.errors import UsageError
from polykern.maps.compute import Recipe, compute
from polykern.maps.result import HeatMap
from polykern.models import Subject
from polykern.models.subject import Thumbnail
from polykern.plane import Grid, Plane, Window
from polykern.progress import Progress
from polykern.selectors import Select
from polykern.tail import Tail
from polykern.walk import modules_of

BATCH = 64  # inputs of a pass
SIGMA = 16 / 4096  # of the width: legible, and the result hardly depends on it
CLASSES = 1 << 15  # of a map of int16


def heatmap(
    subject: Subject,
    inputs: Sequence[str | int] | Tensor | None = None,
    *,
    out: Path | str,
    start: str | None = None,
    stop: str = "",
    select: Select = "*",
    resolution: int = 4096,
    window: Window | None = None,
    zoom: float = 1.0,
    sigma: float | None = None,
    engine: str = "auto",
    arithmetic: str | None = None,
    device: str = "cpu",
    seed: int = 0,
    memory: int = 2 << 30,
    classes: bool | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> HeatMap:
    """The density of polytope boundaries on the plane through three activations, as a folder of maps.

    subject     a network and its data: `polykern.load(...)`, or `Subject(...)` of your own
    inputs      three examples (numbers or files), whose activations at `start` are the anchors; or the anchors
                themselves, float (3, *shape) in the input space of `start`; None: the subject's own three
    out         folder for maps, figures' data and map.json; an interrupted run in it is finished
    start       module into whose input space the plane is laid; None: the subject's own, "" the model's input
    stop        module after whose output the code ends; "" the model's output
    select      which nonlinearities make the code: globs over module names, or a predicate over `Field`
    resolution  pixels a side
    window      square of the plane, L2 units; None: the anchors' bounding box and half of it on every side
    zoom        magnifies the window about its centre
    sigma       of the Gaussian, pixels; None: 16 at 4096, in proportion
    engine      "auto", "tiles", "anchored", "scanline", "float32", "float64"
    arithmetic  of anchored evaluation: "float32", "float16", "bfloat16"; None: what suits the device
    device      "cpu", "cuda:0", ...
    memory      bytes a batch may take
    classes     also map the argmax of the output; None: when the subject names its classes
    progress    called with (stage, done, total)
    returns     the finished map, opened
    errors      UsageError (2), CorruptError (3), ResourceError (4), MismatchError (6)

    Exact for piecewise-linear networks with engine "tiles" (certified, float64); every map is audited against
    float64. Black et al. 2022, "Interpreting Neural Networks through the Polytope Lens", figure 8.
    """
    recipe = prepare(
        subject, inputs, start=start, stop=stop, select=select, resolution=resolution, window=window, zoom=zoom,
        sigma=sigma, engine=engine, arithmetic=arithmetic, device=device, seed=seed, memory=memory, classes=classes,
    )  # fmt: skip
    return compute(recipe, out, overwrite=overwrite, progress=progress)


def prepare(
    subject: Subject,
    inputs: Sequence[str | int] | Tensor | None = None,
    *,
    start: str | None = None,
    stop: str = "",
    select: Select = "*",
    resolution: int = 4096,
    window: Window | None = None,
    zoom: float = 1.0,
    sigma: float | None = None,
    classes: bool | None = None,
    **settings: Any,
) -> Recipe:
    """The recipe of `heatmap` with the same arguments, before anything is computed."""
    start = subject.default_start if start is None else start
    tail = Tail(subject.model, subject.sample, start, stop=stop, select=select)
    if isinstance(inputs, Tensor):
        thumbnails: list[Thumbnail | None] = [None] * 3
        anchors, labels = inputs, ["A", "B", "C"]
        if tuple(anchors.shape) != (3, *tail.input_shape):
            raise UsageError(f"anchors must have shape {[3, *tail.input_shape]}, got {list(anchors.shape)}")
    else:
        chosen = list(subject.default_examples) if inputs is None else list(inputs)
        if len(chosen) != 3:
            raise UsageError(f"a plane goes through three inputs, got {len(chosen)}")
        batch, labels, thumbnails = subject.inputs(chosen)
        anchors = activations(subject, start, batch)
    plane = Plane.through(anchors)
    square = (window or plane.window()).zoomed(zoom)
    grid = Grid(plane, square, resolution)
    vector = has_classes(tail)
    if classes and not vector:
        raise UsageError("the output is not a vector, so it has no class", fix="--no-classes")
    mapped = vector and subject.classes is not None if classes is None else classes
    if mapped and tail.output_shape is not None and tail.output_shape[0] > CLASSES:
        raise UsageError(
            f"{tail.output_shape[0]:,} classes are more than a map tells apart, {CLASSES:,}", fix="--no-classes"
        )
    about = {
        "name": subject.name,
        "weights": subject.weights,
        "note": subject.note,
        "classes": None if subject.classes is None else list(subject.classes),
        "labels": labels,
        "anchor_classes": _classes(tail, plane) if mapped else [None] * 3,
        "pictures": thumbnails,
    }
    width = SIGMA * resolution if sigma is None else sigma
    return Recipe(tail, grid, width, classes=mapped, about=about, **settings)


def activations(subject: Subject, start: str, batch: Tensor) -> Tensor:
    """float32 (n, *shape): what reaches the module `start` when the model reads `batch`, some rows a pass.

    batch  (n, *shape) of the model's first input; further inputs are the sample's for every row
    """
    if not start:
        return batch
    seen: list[Tensor] = []

    def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        seen.append((args or tuple(kwargs.values()))[0].detach())
        raise _Reached

    start_module = modules_of(subject.model, start)[start]
    handle = start_module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        for part in batch.split(BATCH):
            with torch.no_grad(), suppress(_Reached):
                subject.outputs(part)
    finally:
        handle.remove()
    return torch.cat(seen)


class _Reached(Exception):
    """Ends a forward at the start module."""


def _classes(tail: Tail, plane: Plane) -> list[int]:
    """The network's own class at each anchor."""
    out: Tensor = tail.run(plane.anchors.to(tail.device, tail.dtype), lambda met: met.proceed())
    return [int(k) for k in out.argmax(1)]
