"""`polykern superposition`: a toy model from dense to sparse features."""

from typing import TYPE_CHECKING, Annotated

import typer

from polykern.cli import finding, options
from polykern.cli.talk import Talk

if TYPE_CHECKING:
    from polykern.coding import Superposition

EXAMPLES = (
    "polykern superposition --out superposition",
    "polykern superposition --features 40 --hidden 10 --out superposition",
)

Probabilities = Annotated[
    list[float] | None,
    options.option("--probability", panel=options.WHAT, metavar="P",
                   help="Of a feature to be active; repeatable. Default: 1, 0.5, 0.25, 0.1, 0.05, 0.025, 0.01."),
]  # fmt: skip
Features = Annotated[
    int, options.option("--features", panel=options.WHAT, min=1, metavar="N", help="Features of the input.")
]
Hidden = Annotated[
    int, options.option("--hidden", panel=options.WHAT, min=2, metavar="N", help="Dimensions that features share.")
]
Decay = Annotated[
    float, options.option("--decay", panel=options.WHAT, metavar="R", help="Importance of feature i is R^i.")
]
Instances = Annotated[
    int, options.option("--instances", panel=options.HOW, min=1, metavar="N", help="Instances at each P.")
]
Steps = Annotated[int, options.option("--steps", panel=options.HOW, min=1, metavar="N", help="Steps of Adam.")]
Rows = Annotated[int, options.option("--batch", panel=options.HOW, min=1, metavar="N", help="Rows in a step.")]


def command(
    ctx: typer.Context,
    out: finding.Out,
    probability: Probabilities = None,
    features: Features = 40,
    hidden: Hidden = 10,
    decay: Decay = 0.9,
    instances: Instances = 3,
    steps: Steps = 3000,
    batch: Rows = 256,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    figures: options.Figures = True,
) -> None:
    """Train the toy model of superposition from dense to sparse features.

    Many features share few dimensions. Told are how many are represented a dimension, the capacity of each, and the
    exact spectrum of the hidden code with its exponent.
    """
    talk: Talk = ctx.obj
    finding.require_free(out, overwrite=overwrite)

    from polykern.coding import superposition
    from polykern.coding.sweep import PROBABILITIES

    with talk.progress("done") as progress:
        found = superposition(
            probability or PROBABILITIES, features=features, hidden=hidden, decay=decay, instances=instances,
            steps=steps, batch=batch, seed=seed, progress=progress,
        )  # fmt: skip
    finding.tell(talk, found, out, _rows(found), overwrite=overwrite, figures=figures)


def _rows(found: "Superposition") -> list[tuple[str, ...]]:
    means = found.means()
    rows: list[tuple[str, ...]] = [
        (f"p = {p:g}", f"{means['features_a_dimension'][k]} features a dimension, alpha {means['alpha'][k]}")
        for k, p in enumerate(found.probabilities)
    ]
    begins = "at none of these p" if found.begins is None else f"from p = {found.begins:g} on"
    return [*rows, ("superposition", f"more features than dimensions are represented {begins}")]
