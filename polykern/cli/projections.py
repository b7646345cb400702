"""`polykern projections`: the layers of a network along a loop of inputs, through random projections."""

from typing import TYPE_CHECKING, Annotated

import typer

from polykern.cli import asked, finding, options
from polykern.cli.talk import Talk

if TYPE_CHECKING:
    from polykern.spectra.probes import Probes

EXAMPLES = ("polykern projections --model digits --out loop",)

Places = Annotated[
    int,
    options.option(
        "--places", panel=options.HOW, min=2, metavar="N", help="Places on the loop at which a lag is taken."
    ),
]
Repeats = Annotated[
    int, options.option("--repeats", panel=options.HOW, min=1, metavar="N", help="Projections to three dimensions.")
]
Directions = Annotated[
    int,
    options.option("--directions", panel=options.HOW, min=1, metavar="N",
                   help="Random directions, and as many neurons, of each layer that are scored by class."),
]  # fmt: skip


def command(
    ctx: typer.Context,
    out: finding.Out,
    model: options.Model = "digits",
    start: options.Start = None,
    select: options.Select = None,
    images: options.Images = None,
    indices: options.Indices = None,
    places: Places = 256,
    repeats: Repeats = 8,
    directions: Directions = 32,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    figures: options.Figures = True,
) -> None:
    """Follow the layers of a network along the circle through three inputs, seen through random projections.

    Each layer is drawn in three random dimensions; its variogram says from which length on it is rough, beside the
    mean length of a polytope on the loop. Where the examples have classes, random directions of each layer and its
    neurons are scored by how far the rows where they are strong are of one class.
    """
    talk: Talk = ctx.obj
    finding.require_free(out, overwrite=overwrite)
    inputs = asked.inputs(images, indices)

    from polykern.spectra import projections

    subject = asked.subject(talk, model, seed)
    with talk.progress("done") as progress:
        found = projections(
            subject, inputs, start=start, select=select or "*", places=places, repeats=repeats, seed=seed,
            directions=directions, progress=progress,
        )  # fmt: skip
    rows: list[tuple[str, ...]] = [
        (name, f"mean polytope {x.polytope.value:.3g} turns, slope below 1.9 from {x.variogram.crossover():.3g} on")
        for name, x in found.loops.items()
    ]
    rows += [(name, _scored(x.probes)) for name, x in found.loops.items() if x.probes is not None]
    finding.tell(talk, found, out, rows, overwrite=overwrite, figures=figures)


def _scored(found: "Probes") -> str:
    means = (f"{family} {found.mean(family, 'strongest')}" for family in ("neurons", "random"))
    return f"purity of the strongest rows above chance: {', '.join(means)}"
