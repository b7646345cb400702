"""`polykern residual`: the residual stream of a language model, scaled and interpolated."""

from typing import TYPE_CHECKING, Annotated

import typer

from polykern.cli import completion, finding, options, values
from polykern.cli.talk import Talk

if TYPE_CHECKING:
    from polykern.streams import Residual

EXAMPLES = (
    "polykern residual --out residual",
    "polykern residual --model gpt2 --block 3 --scale 0.5 --scale 2 --out residual",
)

Model = Annotated[
    str,
    options.option("--model", panel=options.WHAT, env="MODEL", metavar="MODEL",
                   autocompletion=completion.languages,
                   help="smollm2, gpt2, a folder of transformers' files, with or without LayerNorms; "
                        f"{options.OWN}."),
]  # fmt: skip
Block = Annotated[
    int | None,
    options.option("--block", panel=options.WHERE, min=0, metavar="N",
                   help="Block in front of whose MLP the stream is scaled. Default: the middle one."),
]  # fmt: skip
Scale = Annotated[
    list[float] | None,
    options.option("--scale", panel=options.WHERE, metavar="X",
                   help="Factor of the stream; repeatable. Default: 0.1, 0.25, 0.5, 2, 4, 10."),
]  # fmt: skip
Texts = Annotated[
    int, options.option("--texts", panel=options.HOW, min=4, metavar="N", help="Texts that are read.")
]
Tokens = Annotated[
    int, options.option("--tokens", panel=options.HOW, min=2, metavar="N", help="Tokens of each text.")
]
Steps = Annotated[
    int, options.option("--steps", panel=options.HOW, min=1, metavar="N", help="Steps from one text to another.")
]


def command(
    ctx: typer.Context,
    out: finding.Out,
    model: Model = "smollm2",
    block: Block = None,
    scale: Scale = None,
    texts: Texts = 12,
    tokens: Tokens = 8,
    steps: Steps = 50,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    figures: options.Figures = True,
) -> None:
    """Count the bits of codes that change as the residual stream is scaled, and on its way from text to text.

    With norms as they are, without their eps, and frozen to what they measured in the unscaled run; a checkpoint
    that was trained to do without LayerNorms is recognised by its eps and read as what it is.
    """
    talk: Talk = ctx.obj
    for factor in scale or ():
        values.positive("--scale", factor)
    finding.require_free(out, overwrite=overwrite)

    from polykern.models.language import language
    from polykern.streams import residual
    from polykern.streams.compute import SCALED

    network = language(model)
    talk.say(f"{network.name}: {network.note}")
    with talk.progress("done") as progress:
        found = residual(
            network, block=block, scales=scale or SCALED, count=texts, tokens=tokens, steps=steps, seed=seed,
            progress=progress,
        )  # fmt: skip
    finding.tell(talk, found, out, _rows(found), overwrite=overwrite, figures=figures)


def _rows(found: "Residual") -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for norms, one in found.scaled.items():
        last = len(one.fields) - 1
        for k in dict.fromkeys([found.block, min(found.block + 1, last), last]):
            each = ", ".join(f"{s:g}: {found.share(norms, k, i)}" for i, s in enumerate(one.scales))
            rows.append((f"norms {norms}, block {k}", f"share of bits that change at {each}"))
    fields = len(found.ways[0].fields)
    for k in dict.fromkeys([0, fields // 2, fields - 1]):
        rows.append((
            f"way, block {k + 1}",
            f"{found.density(k)} bits per L2, {found.steep(k)} of them in the steepest tenth of the steps",
        ))  # fmt: skip
    crossed = sum(int(w.flips.sum()) for w in found.ways) / len(found.ways)
    told = f"{crossed:,.0f} bits change a way; the output moves by {found.steep(None)} in its steepest tenth"
    if (changes := found.changes()) is not None:
        told += f"; the most likely token changes {changes.mean():.3g} times"
    rows.append(("ways", told))
    return rows
