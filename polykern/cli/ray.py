"""`polykern ray`: densities of boundaries from the origin through activations and beyond."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polykern.cli import asked, options, values
from polykern.cli.finding import Exact, Follow, Out, require_free, tell
from polykern.cli.talk import Talk
from polykern.errors import UsageError

if TYPE_CHECKING:
    from polykern.paths import Beam, Ray

EXAMPLES = (
    "polykern ray --model digits --index 0 --index 1 --out ray",
    "polykern ray --model digits --reach 10 --no-controls --out ray",
)

Index = Annotated[
    list[int] | None,
    options.option("--index", panel=options.WHAT, metavar="I",
                   help="One of the model's numbered examples, through which a ray goes; repeatable."),
]  # fmt: skip
File = Annotated[
    list[str] | None,
    options.option("--image", panel=options.WHAT, metavar="FILE", help="The same for a file; repeatable."),
]
Rays = Annotated[
    int,
    options.option("--rays", panel=options.HOW, env="RAYS", metavar="N",
                   help="Rays through images, the named ones and others at random."),
]  # fmt: skip
Noise = Annotated[
    int,
    options.option("--noise", panel=options.HOW, env="NOISE", metavar="N",
                   help="Rays along noise, and along its absolute value."),
]  # fmt: skip
Reach = Annotated[
    float, options.option("--reach", panel=options.WHERE, env="REACH", metavar="S", help="Largest scale.")
]
Points = Annotated[
    int,
    options.option("--points", panel=options.WHERE, env="POINTS", metavar="N", help="Scales from 0 to --reach."),
]
Controls = Annotated[
    bool,
    options.option("--controls/--no-controls", panel=options.HOW, metavar="",
                   help="Also through the untrained network, as initialised and with measured BatchNorm."),
]  # fmt: skip
WordNet = Annotated[
    Path | None,
    options.option("--wordnet", panel=options.HOW, env="WORDNET", metavar="DIR",
                   help="Folder of WordNet, in which classes that follow each other on rays are compared."),
]  # fmt: skip
Synsets = Annotated[
    Path | None,
    options.option("--synsets", panel=options.HOW, metavar="FILE",
                   help="A noun synset a line for each class. Default: by the names of the classes."),
]  # fmt: skip


def command(
    ctx: typer.Context,
    out: Out,
    model: options.Model = "digits",
    start: options.Start = None,
    stop: options.Stop = "",
    select: options.Select = None,
    index: Index = None,
    image: File = None,
    reach: Reach = 5.0,
    points: Points = 500,
    rays: Rays = 16,
    noise: Noise = 8,
    exact: Exact = None,
    classes: Follow = None,
    controls: Controls = True,
    wordnet: WordNet = None,
    synsets: Synsets = None,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    figures: options.Figures = True,
) -> None:
    """Scale activations from the origin to beyond and count the boundaries of polytopes on the way.

    Density, class and outputs along s x for images and for noise, and through the untrained network: as
    initialised, and, where there is BatchNorm, with statistics measured on the images.
    """
    talk: Talk = ctx.obj
    values.positive("--reach", reach)
    where = values.device(device, "auto")
    if index and image:
        raise UsageError("--index and --image are two ways to say the same", fix="leave one of the two out")
    require_free(out, overwrite=overwrite)

    from polykern.paths import ray

    subject = asked.subject(talk, model, seed)
    with talk.progress("steps") as progress:
        found = ray(
            subject, image or index or None, start=start, stop=stop, select=select or "*", images=rays, noise=noise,
            reach=reach, points=points, exact=exact, classes=classes, controls=controls, wordnet=wordnet,
            synsets=synsets, seed=seed, device=where, progress=progress,
        )  # fmt: skip
    if wordnet is not None and found.related is None:
        talk.say("classes with synsets change on one ray at most: nothing to compare", "warning")
    tell(talk, found, out, _rows(found), overwrite=overwrite, figures=figures)


def _rows(found: "Ray") -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        (f"{beam.network}, {beam.direction}", _of(beam, found.seed)) for beam in found.beams
    ]
    if (related := found.related) is not None:
        chance, exchanged = related.any_pairs, related.exchanged
        rows.append((
            "consecutive classes",
            f"{related.mean} steps apart in WordNet; any two {chance.mean():.3g} (p {related.p(chance):.2g}), "
            f"exchanged {exchanged.mean():.3g} (p {related.p(exchanged):.2g}); {related.matched} of "
            f"{related.classes} classes have a synset",
        ))  # fmt: skip
    return rows


def _of(beam: "Beam", seed: int) -> str:
    numbers = beam.numbers(seed)
    crossed = numbers["crossings"]
    told = f"{sum(crossed) / len(crossed):,.0f} crossings a ray"
    if (peak := numbers["peak"]) is not None:
        told += f", peak at s = {peak['value']:.3f} [{peak['low']:.3f}, {peak['high']:.3f}]"
    if "class changes" in numbers:
        told += f", {sum(numbers['class changes'])} class changes in {numbers['rays']} rays"
    return told
