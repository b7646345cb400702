"""`polykern redundancy`: what dropout does to a hidden code."""

from typing import TYPE_CHECKING, Annotated

import typer

from polykern.cli import finding, options
from polykern.cli.talk import Talk

if TYPE_CHECKING:
    from polykern.coding import Redundancy

EXAMPLES = (
    "polykern redundancy --out redundancy",
    "polykern redundancy --model autoencoder --dropout 0 --dropout 0.3 --seeds 2 --out redundancy",
)

Model = Annotated[
    str,
    options.option("--model", panel=options.WHAT, metavar="NAME",
                   help="digits: the digits network; autoencoder: a residual autoencoder of the same images."),
]  # fmt: skip
Dropouts = Annotated[
    list[float] | None,
    options.option("--dropout", panel=options.WHAT, metavar="P",
                   help="Share of the code's units left out in training; repeatable. Default: 0, 0.1, 0.3, 0.5."),
]  # fmt: skip
Seeds = Annotated[
    int, options.option("--seeds", panel=options.HOW, min=1, metavar="N", help="Networks of each dropout.")
]
Epochs = Annotated[
    int, options.option("--epochs", panel=options.HOW, min=1, metavar="N", help="Passes over the training images.")
]
Repeats = Annotated[
    int, options.option("--repeats", panel=options.HOW, min=1, metavar="N", help="Orders in which neurons fail.")
]


def command(
    ctx: typer.Context,
    out: finding.Out,
    model: Model = "digits",
    dropout: Dropouts = None,
    seeds: Seeds = 3,
    epochs: Epochs = 20,
    repeats: Repeats = 20,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    figures: options.Figures = True,
) -> None:
    """Train the same network with more and more dropout, and see what that does to its hidden code.

    Told are the exponent of its eigenvalues, what is left when a random share of its neurons is zeroed, and how far
    the binary codes of classes lie apart.
    """
    talk: Talk = ctx.obj
    finding.require_free(out, overwrite=overwrite)

    from polykern.coding import redundancy
    from polykern.coding.compute import DROPOUTS

    with talk.progress("done") as progress:
        found = redundancy(
            model, dropouts=dropout or DROPOUTS, seeds=seeds, epochs=epochs, repeats=repeats, seed=seed,
            progress=progress,
        )  # fmt: skip
    for n in found.networks:
        if n.spectra[n.last, found.code] is None:
            few = f"dropout {n.dropout:g}, seed {n.seed}: too few units of the code are in use"
            talk.say(f"{few} for a window of ranks; it has no alpha", "warning")
    finding.tell(talk, found, out, _rows(found), overwrite=overwrite, figures=figures)


def _rows(found: "Redundancy") -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    measures, what = found.measures(), found.about["settings"]["score"]
    for k, p in enumerate(found.dropouts):
        area, alpha, score = (measures[name][k].mean() for name in ("area", "alpha", "score"))
        rows.append((f"dropout {p:g}", f"area {area:.3f}, alpha {alpha:.3f}, {what} {score:.3f}"))
    for name in ("area", "alpha") if len(found.dropouts) > 1 else ():
        g = found.growth(name)
        rows.append(
            (
                name,
                f"larger at the most dropout in {g.larger} of {g.seeds} seeds, never falling in {g.never_falling}",
            )
        )
    return rows
