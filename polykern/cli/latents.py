"""`polykern latents`: sparse autoencoders of a layer with and without the loss of neuron embeddings."""

from typing import TYPE_CHECKING, Annotated

import typer

from polykern.cli import asked, finding, options, values
from polykern.cli.talk import Talk

if TYPE_CHECKING:
    from polykern.neurons import LatentTrial

EXAMPLES = (
    "polykern latents --out latents",
    "polykern latents --expansion 4 --strength 3 --seeds 5 --out latents",
)

Module = Annotated[
    str,
    options.option("--module", panel=options.WHAT, metavar="MODULE", help="Linear module with a ReLU behind it."),
]
Expansion = Annotated[
    int, options.option("--expansion", panel=options.HOW, min=1, metavar="N", help="Latents for every neuron.")
]
Sparsity = Annotated[
    float, options.option("--sparsity", panel=options.HOW, metavar="X", help="Weight of the sum of activations.")
]
Strength = Annotated[
    float, options.option("--strength", panel=options.HOW, metavar="X", help="Weight of the loss of embeddings.")
]
Denser = Annotated[
    float,
    options.option("--denser", panel=options.HOW, metavar="X", help="Sparsity of the control without the loss."),
]
Steps = Annotated[
    int, options.option("--steps", panel=options.HOW, min=1, metavar="N", help="Steps of each training.")
]
Seeds = Annotated[
    int, options.option("--seeds", panel=options.HOW, min=2, metavar="N", help="Trainings of each, from --seed on.")
]


def command(
    ctx: typer.Context,
    out: finding.Out,
    model: options.Model = "digits",
    module: Module = "fc1",
    expansion: Expansion = 8,
    sparsity: Sparsity = 0.2,
    strength: Strength = 10.0,
    denser: Denser = 0.1,
    steps: Steps = 600,
    seeds: Seeds = 3,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    figures: options.Figures = True,
) -> None:
    """Train sparse autoencoders of a hidden layer with and without the loss of neuron embeddings.

    The loss pulls a latent's embeddings together. Beside it an autoencoder without the loss, and one without it
    that is less sparse: error of what is rebuilt, active latents, dead ones, distances of a latent's examples.
    """
    talk: Talk = ctx.obj
    finding.require_free(out, overwrite=overwrite)
    for name, value in (("--sparsity", sparsity), ("--strength", strength), ("--denser", denser)):
        values.finite(name, value)

    from polykern.neurons import latents

    subject = asked.subject(talk, model, seed)
    with talk.progress("autoencoders") as progress:
        found = latents(
            subject, module=module, expansion=expansion, sparsity=sparsity, strength=strength, denser=denser,
            steps=steps, seeds=range(seed, seed + seeds), progress=progress,
        )  # fmt: skip
    finding.tell(talk, found, out, _rows(found), overwrite=overwrite, figures=figures)


def _rows(found: "LatentTrial") -> list[tuple[str, ...]]:
    names = {
        "held_error": "error",
        "l0": "active",
        "dead": "dead",
        "mean_distance": "distance",
        "clusters": "clusters",
    }
    said, rows = found.numbers(), list[tuple[str, ...]]()
    for name in ("plain", "loss", "denser", "loss minus plain", "loss minus denser"):
        shown = ((word, said[name][m]) for m, word in names.items())
        rows.append((name, ", ".join(f"{w} {e['value']:.3f} [{e['low']:.3f}, {e['high']:.3f}]" for w, e in shown)))
    own = said["neurons"]
    rows.append(("neurons", ", ".join(f"{w} {own[m]:.3f}" for m, w in list(names.items())[2:])))
    return rows
