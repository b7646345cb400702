"""`polykern embeddings`: what makes every neuron of a language model fire, in clusters."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polykern.cli import capture_options as own
from polykern.cli import finding, options, values
from polykern.cli.talk import Talk
from polykern.errors import UsageError

if TYPE_CHECKING:
    from polykern.neurons import Embeddings

EXAMPLES = (
    "polykern embeddings --model minilm --corpus stdlib --limit-tokens 50000 --out neurons",
    "polykern embeddings --model smollm2 --corpus stdlib --block 3 --top 50 --cut 0.3 --out neurons",
)

Top = Annotated[
    int,
    options.option("--top", panel=options.HOW, min=1, metavar="N", help="Examples of a neuron, one a sequence."),
]
Share = Annotated[
    float,
    options.option("--share", panel=options.HOW, metavar="X",
                   help="An example counts above this share of the neuron's largest activation."),
]  # fmt: skip
Cut = Annotated[
    float,
    options.option("--cut", panel=options.HOW, metavar="D", help="Distance below which examples are one feature."),
]
Joined = Annotated[
    str, options.option("--linkage", panel=options.HOW, metavar="NAME", help="average, or single: components.")
]
Explorer = Annotated[
    bool,
    options.option("--explorer/--no-explorer", panel=options.SAID, metavar="",
                   help="Write DIR/explorer, pages of every neuron that open from the disk."),
]  # fmt: skip


def command(
    ctx: typer.Context,
    out: finding.Out,
    model: options.Model = "minilm",
    corpus: own.CorpusOf = None,
    block: own.Block = None,
    top: Top = 100,
    share: Share = 0.75,
    cut: Cut = 0.2,
    linkage: Joined = "average",
    length: Annotated[
        int, options.option("--length", panel=options.HOW, min=1, metavar="N", help="Tokens of a sequence.")
    ] = 128,
    limit_tokens: own.LimitTokens = 50_000,
    text_key: own.TextKey = "text",
    batch: own.Batch = None,
    dtype: own.Dtype = "float32",
    device: options.Device = "auto",
    overwrite: finding.Overwrite = False,
    figures: options.Figures = True,
    explorer: Explorer = True,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
    log_format: options.Log = "text",
) -> None:
    """Find what makes each neuron fire most, and group it by neuron embeddings.

    An embedding is what the neuron receives at a token, times its weights. One pass over a corpus keeps the top
    examples of every neuron, exactly. Their clusters are the features of the neuron; how many there are, and how
    far apart, says how polysemantic it is. The explorer shows all of them.
    """
    talk: Talk = ctx.obj
    talk.settle(quiet=quiet, verbose=verbose, log=log_format)
    finding.require_free(out, overwrite=overwrite)
    values.finite("--share", share)
    values.positive("--cut", cut)
    values.one_of("--linkage", linkage, ("average", "single"))
    where = values.device(device, "auto")
    if corpus is None:
        raise UsageError("no text to read", fix="--corpus FILE or DIR, or --corpus stdlib")

    from polykern.neurons import embeddings

    with talk.progress("done") as progress:
        found = embeddings(
            model, corpus, blocks=block, top=top, share=share, cut=cut, linkage=linkage, length=length,  # type: ignore[arg-type]
            limit_tokens=limit_tokens, device=where, progress=progress, text_key=text_key, batch=batch, dtype=dtype,
        )  # fmt: skip
    with talk.progress("done") as progress:

        def page(folder: Path) -> Path:
            from polykern.neurons.explorer import write

            return write(found, folder / "explorer", progress=progress)

        finding.tell(
            talk, found, out, _rows(found), overwrite=overwrite, figures=figures, page=page if explorer else None
        )


def _rows(found: "Embeddings") -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("tokens", f"{len(found.token):,} of {len(found.start):,} sequences")]
    for layer in found.layers:
        said = layer.as_dict(0)
        clusters, apart = said["clusters"], said["mean_distance"]
        mean = "" if clusters is None else f", {clusters['value']:.1f} features a neuron"
        far = "" if apart is None else f", mean distance {apart['value']:.3f}"
        rows.append((layer.name, f"{said['neurons']:,} neurons, {said['dead']:,} never fire{mean}{far}"))
    return rows
