"""`polykern spectrum`: how the variance of activations and codes falls with the rank."""

from typing import TYPE_CHECKING, Annotated

import typer

from polykern.cli import asked, finding, options, values
from polykern.cli.talk import Talk
from polykern.errors import UsageError

if TYPE_CHECKING:
    from polykern.spectra import Spectra

EXAMPLES = ("polykern spectrum --model digits --out spectrum",)

Sites = Annotated[
    list[str] | None,
    options.option("--site", panel=options.WHAT, metavar="NAME",
                   help="Nonlinearity, or activations that the store keeps; repeatable. Default: all."),
]  # fmt: skip
WithCodes = Annotated[
    bool, options.option("--codes/--no-codes", panel=options.WHAT, metavar="", help="Also the bits of each site.")
]
Ranks = Annotated[
    tuple[int, int] | None,
    options.option("--ranks", panel=options.HOW, metavar="FIRST LAST",
                   help="Window of the power law. Default: 11 to 500, or to half the rank."),
]  # fmt: skip
Dimension = Annotated[
    float | None,
    options.option("--dimension", panel=options.HOW, metavar="D",
                   help="Of the inputs, where it is known: the bound 1 + 2/D is drawn."),
]  # fmt: skip
Groups = Annotated[
    int,
    options.option("--groups", panel=options.HOW, min=2, metavar="N", help="Groups that documents are dealt into."),
]
Centred = Annotated[
    bool, options.option("--centred/--raw", panel=options.HOW, metavar="", help="Take the mean away first.")
]


def command(
    ctx: typer.Context,
    out: finding.Out,
    store: Annotated[
        str | None, typer.Argument(metavar="STORE", help="Store of `polykern capture --activations ...`.")
    ] = None,
    model: options.Model = "digits",
    site: Sites = None,
    codes: WithCodes = True,
    ranks: Ranks = None,
    centred: Centred = True,
    dimension: Dimension = None,
    groups: Groups = 16,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    figures: options.Figures = True,
) -> None:
    """Measure the eigenspectra of the activations and codes of layers, and their power-law exponents.

    Without a STORE the model is run on its own examples; the channels of a feature map at each place are a row.
    Exponents come with intervals over documents, with other windows beside them, and with a warning where there are
    fewer than ten rows a column.
    """
    talk: Talk = ctx.obj
    finding.require_free(out, overwrite=overwrite)
    first, last = ranks or (None, None)
    if ranks and not 1 <= ranks[0] < ranks[1]:
        raise UsageError(
            f"--ranks {ranks[0]} {ranks[1]} is no window", fix="two ranks, the first from 1 on and lower"
        )
    if dimension is not None:
        values.positive("--dimension", dimension)

    from polykern.spectra import spectrum
    from polykern.store import Store

    source = Store.open(store) if store is not None else asked.subject(talk, model, seed)
    with talk.progress("done") as progress:
        found = spectrum(
            source, site, codes=codes, first=first, last=last, centred=centred, dimension=dimension, groups=groups,
            progress=progress,
        )  # fmt: skip
    for name, reason in found.about["left_out"].items():
        talk.say(f"{name} is left out: {reason}")
    for name, s in found.sites.items():
        if not s.enough:
            few = f"{name}: {s.rows:,} rows of {len(s.values):,} columns"
            talk.say(f"{few}; below ten rows a column alpha is biased", "warning")
    finding.tell(talk, found, out, _rows(found), overwrite=overwrite, figures=figures)


def _rows(found: "Spectra") -> list[tuple[str, ...]]:
    return [
        (name, f"alpha {s.interval}, ranks {s.fit.first}-{s.fit.last}; effective rank {s.effective_rank:.1f} of "
         f"{len(s.values):,}")
        for name, s in found.sites.items()
    ]  # fmt: skip
