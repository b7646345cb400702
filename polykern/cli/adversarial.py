"""`polykern adversarial`: boundaries on the way from images to their adversarial versions."""

from typing import TYPE_CHECKING, Annotated

import typer

from polykern.cli import asked, options, values
from polykern.cli.finding import Exact, Out, require_free, tell
from polykern.cli.talk import Talk

if TYPE_CHECKING:
    from polykern.paths import Adversarial

EXAMPLES = (
    "polykern adversarial --model digits --radius 0.1 --out adversarial",
    "polykern adversarial --model digits --norm l2 --radius 1 --count 32 --out adversarial",
)

Count = Annotated[
    int, options.option("--count", panel=options.HOW, env="COUNT", min=2, metavar="N", help="Images, at random.")
]
Radius = Annotated[
    float,
    options.option("--radius", panel=options.WHERE, env="RADIUS", metavar="R",
                   help="Radius of the attack, in the units of the model's input."),
]  # fmt: skip
Norm = Annotated[
    str,
    options.option(
        "--norm", panel=options.WHERE, env="NORM", metavar="NAME", help="Norm of the attack: linf or l2."
    ),
]
Steps = Annotated[
    int,
    options.option("--steps", panel=options.HOW, env="STEPS", min=1, metavar="N", help="Steps of the attack."),
]


def command(
    ctx: typer.Context,
    out: Out,
    model: options.Model = "digits",
    select: options.Select = None,
    radius: Radius = 0.1,
    norm: Norm = "linf",
    count: Count = 64,
    steps: Steps = 20,
    exact: Exact = None,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    figures: options.Figures = True,
) -> None:
    """Attack images by projected gradient descent and count the boundaries on the way.

    Beside each: a random direction of the same length, the direction of the nearest image of its class, and the way
    that the attack took. Paired by image.
    """
    talk: Talk = ctx.obj
    values.positive("--radius", radius)
    where = values.device(device, "auto")
    require_free(out, overwrite=overwrite)

    from polykern.paths import adversarial
    from polykern.paths.attacks import NORMS

    values.one_of("--norm", norm, NORMS)
    subject = asked.subject(talk, model, seed)
    with talk.progress("steps") as progress:
        found = adversarial(
            subject, images=count, radius=radius, norm=norm, steps=steps, select=select or "*", exact=exact,
            seed=seed, device=where, progress=progress,
        )  # fmt: skip
    tell(talk, found, out, _rows(found), overwrite=overwrite, figures=figures)


def _rows(found: "Adversarial") -> list[tuple[str, ...]]:
    from polykern.statistics import wilcoxon

    rows: list[tuple[str, ...]] = [("class left", f"by {found.left.mean():.0%} of {len(found.images)} images")]
    for k, way in enumerate(("random", "neighbour", "stepwise"), 1):
        p = wilcoxon(found.density[0], found.density[k])[1]
        rows.append((f"adversarial / {way}", f"{found.ratio(way)} boundaries per L2, p = {p:.2g}"))
    return rows
