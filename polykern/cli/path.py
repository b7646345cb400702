"""`polykern path`: densities of boundaries between activations."""

from typing import TYPE_CHECKING, Annotated

import typer

from polykern.cli import asked, options, values
from polykern.cli.finding import Exact, Follow, Out, require_free, tell
from polykern.cli.talk import Talk

if TYPE_CHECKING:
    from polykern.paths import Path

EXAMPLES = (
    "polykern path --model digits --indices 0 1 --out path",
    "polykern path --model googlenet --start inception4a --images a.jpg b.jpg --pairs 0 --out path",
)
PAIRS = 200

Ends = Annotated[
    tuple[int, int] | None,
    options.option(
        "--indices",
        panel=options.WHAT,
        metavar="I J",
        help="The two ends, as numbers of examples. Default: the model's own.",
    ),
]
Files = Annotated[
    tuple[str, str] | None,
    options.option("--images", panel=options.WHAT, metavar="A B", help="The two ends, as files."),
]
Kind = Annotated[
    str,
    options.option("--kind", panel=options.WHERE, env="KIND", metavar="NAME",
                   help="slerp, lerp, or direction: its direction by slerp, its norm by lerp."),
]  # fmt: skip
Positions = Annotated[
    int,
    options.option("--positions", panel=options.WHERE, env="POSITIONS", metavar="N", help="Positions on the path."),
]
Ball = Annotated[
    int, options.option("--ball", panel=options.HOW, env="BALL", metavar="N", help="Points around each position.")
]
Radius = Annotated[
    float,
    options.option("--radius", panel=options.HOW, env="RADIUS", metavar="R",
                   help="Radius of the balls, in distances of the two ends."),
]  # fmt: skip
Pairs = Annotated[
    int | None,
    options.option("--pairs", panel=options.HOW, env="PAIRS", metavar="N",
                   help=f"Pairs of different classes and as many of one class, for the means by layer. Default: "
                   f"{PAIRS} where the classes are known; 0: none."),
]  # fmt: skip
Layers = Annotated[
    list[str] | None,
    options.option("--layer", panel=options.HOW, metavar="MODULE",
                   help="Start module of the means; repeatable. Default: up to six children of the model."),
]  # fmt: skip
Checked = Annotated[
    int,
    options.option("--checked", panel=options.HOW, env="CHECKED", metavar="N",
                   help="Pairs along which ball and path density are compared."),
]  # fmt: skip


def command(
    ctx: typer.Context,
    out: Out,
    model: options.Model = "digits",
    start: options.Start = None,
    stop: options.Stop = "",
    select: options.Select = None,
    images: Files = None,
    indices: Ends = None,
    kind: Kind = "slerp",
    positions: Positions = 100,
    ball: Ball = 150,
    radius: Radius = 0.02,
    exact: Exact = None,
    classes: Follow = None,
    pairs: Pairs = None,
    layer: Layers = None,
    checked: Checked = 20,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    figures: options.Figures = True,
) -> None:
    """Follow an interpolation between two activations and count the boundaries of polytopes on it and around it.

    One pair in detail: density in balls around 100 positions, every crossing of the path, the class, the outputs.
    Then the mean density along many pairs of images, of different classes and of one, layer by layer.
    """
    talk: Talk = ctx.obj
    values.positive("--radius", radius)
    where = values.device(device, "auto")
    inputs = asked.inputs(images, indices)
    require_free(out, overwrite=overwrite)

    from polykern.paths import path

    subject = asked.subject(talk, model, seed)
    if pairs is None:
        pairs = 0 if subject.examples.targets is None else PAIRS
    with talk.progress("steps") as progress:
        found = path(
            subject, inputs, start=start, stop=stop, select=select or "*", kind=kind,
            positions=positions, ball=ball, radius=radius, exact=exact, classes=classes, pairs=pairs,
            layers=layer or None, checked=checked, seed=seed, device=where, progress=progress,
        )  # fmt: skip
    if found.curve.note:
        talk.say(found.curve.note, "warning")
    tell(talk, found, out, _rows(found), overwrite=overwrite, figures=figures)


def _rows(found: "Path") -> list[tuple[str, ...]]:
    along, total = found.along, int(found.along.flips.sum())
    how = (
        "exact" if along.missed is None else f"sampled; the last halving of steps found {along.missed:.2%} of them"
    )
    rows: list[tuple[str, ...]] = [
        ("path", f"{found.labels[0]} to {found.labels[1]}, {found.curve.kind}, {along.length.sum():.4g} L2"),
        ("crossings", f"{total:,}, {how}; the ends differ in {along.hamming:,} bits"),
        ("ball density", f"{found.balls.density.mean():.4g} per L2, radius {found.balls.radius:.3g}"),
        ("ball and path", f"rank correlation {found.agreement()}"),
    ]
    if len(along.classes):
        turns = " ".join(found.called(k) for k in along.classes.tolist())
        rows.append(("classes", turns))
    if len(along.change):
        rows.append(("density and changes", f"correlation {found.change_correlation()}"))
    if found.means is not None:
        rows += _layers(found)
    return rows


def _layers(found: "Path") -> list[tuple[str, ...]]:
    """A row a layer: how the mean density rises from the ends to the middle."""
    means = found.means
    assert means is not None
    rows: list[tuple[str, ...]] = []
    for k, name in enumerate(means.layers):
        rises = [means.rise(k, c, found.seed) or "nothing crossed," for c in (0, 1)]
        rows.append(
            (f"from {name or 'the input'}", f"middle minus ends: {rises[0]} different, {rises[1]} same class")
        )
    if len(each := means.agreements()) > 1:
        told = (
            f"rank correlation {each.mean():.3f}, mean of {len(each)} pairs; {means.agreement_of_means(found.seed)}"
        )
        rows.append(("ball and path", f"{told} of their means"))
    return rows
