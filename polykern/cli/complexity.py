"""`polykern complexity`: how many boundaries a network has around points, along paths, over training, at first."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from polykern.cli import asked, options, values
from polykern.cli.finding import Out, require_free, tell
from polykern.cli.talk import Talk

if TYPE_CHECKING:
    from polykern.boundaries import Complexity

EXAMPLES = (
    "polykern complexity --model digits --out complexity",
    "polykern complexity --model digits --part local --part outliers --radius 0.1 --out complexity",
)
DTYPES = ("float64", "float32")

Parts = Annotated[
    list[str] | None,
    options.option("--part", panel=options.WHAT, metavar="NAME",
                   help="local, training, transitions, initialisation, outliers; repeatable. Default: all."),
]  # fmt: skip
Points = Annotated[
    int, options.option("--points", panel=options.HOW, env="POINTS", metavar="N", help="Points of each set.")
]
Radii = Annotated[
    list[float] | None,
    options.option("--radius", panel=options.HOW, metavar="R",
                   help="Radius of the neighbourhoods, L2; repeatable. Default: shares of the median distance of "
                   "points."),
]  # fmt: skip
Directions = Annotated[
    int | None,
    options.option("--directions", panel=options.HOW, metavar="P",
                   help="Orthonormal directions of a neighbourhood, 2 P vertices. Default: 25."),
]  # fmt: skip
Dtype = Annotated[
    str,
    options.option("--dtype", panel=options.HOW, env="DTYPE", metavar="NAME",
                   help="float64, or float32 for three times the speed."),
]  # fmt: skip


def command(
    ctx: typer.Context,
    out: Out,
    model: options.Model = "digits",
    part: Parts = None,
    start: options.Start = None,
    stop: options.Stop = "",
    select: options.Select = None,
    points: Points = 64,
    radius: Radii = None,
    directions: Directions = None,
    dtype: Dtype = "float64",
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    figures: options.Figures = True,
) -> None:
    """Measure how many boundaries a network has where.

    Local complexity around training points, test points and random ones; its course over the training of the digits
    network; transitions on closed paths and Jacobians; random networks against the number of their neurons; and how
    well codes tell scaled and perturbed points from others. Intervals are 95% bootstrap intervals.
    """
    talk: Talk = ctx.obj
    values.positive("--points", points)
    for given in radius or ():
        values.positive("--radius", given)
    values.one_of("--dtype", dtype, DTYPES)

    import torch

    from polykern.boundaries import PARTS, complexity

    require_free(out, overwrite=overwrite)
    for name in part or ():
        values.one_of("--part", name, tuple(PARTS))
    subject = asked.subject(talk, model, seed)
    with talk.progress("steps") as progress:
        found = complexity(
            subject, part or None, start=start, stop=stop, select=select or "*", points=points,
            radii=radius or None, directions=directions, seed=seed, dtype=getattr(torch, dtype), progress=progress,
        )  # fmt: skip
    tell(talk, found, out, _rows(found), overwrite=overwrite, figures=figures)


def _rows(found: "Complexity") -> list[tuple[str, ...]]:
    numbers = found.numbers()
    rows: list[tuple[str, ...]] = []
    for network, sets in numbers.get("local", {}).items():
        for points, radii in sets.items():
            radius, value = list(radii.items())[len(radii) // 2]
            rows.append((f"{network}, {points}", f"{_told(value)} boundaries within r = {radius}"))
    for points, course in numbers.get("training", {}).items():
        if isinstance(course, dict):
            rows.append((f"over training, {points}", f"x {_told(course['last_over_first'])} from first to last"))
    for network, around in numbers.get("transitions", {}).items():
        for over in ("window", "triangle"):
            rows.append((f"{network}, points / {over}", _told(around[f"at_points_over_{over}"])))
    if first := numbers.get("initialisation"):
        rows.append(("crossings per neuron", f"{_told(first['slope'])} per L2, R^2 {first['r2']:.4f}"))
        rows.append(("nearest boundary", f"neurons to the power {_told(first['exponent'])}"))
    for score, conditions in numbers.get("outliers", {}).get("auroc", {}).items():
        shown = ", ".join(f"{name} {conditions[name]['value']:.3f}" for name in ("scaled 0.2", "scaled 5"))
        rows.append((f"AUROC of {score}", shown))
    return rows


def _told(value: dict[str, Any]) -> str:
    return f"{value['value']:.4g} [{value['low']:.4g}, {value['high']:.4g}]"
