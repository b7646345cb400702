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
SiteOf = Annotated[
    str,
    options.option("--site", panel=options.HOW, metavar="NAME",
                   help="What neurons receive: ln2_out, behind the norm before them, or resid_mid, ahead of it."),
]  # fmt: skip
FoldOf = Annotated[
    str,
    options.option("--fold", panel=options.HOW, metavar="NAME",
                   help="The norm's gain: none, in what they receive; gain, in the weights; tl, also centred."),
]  # fmt: skip
GatedOf = Annotated[
    str, options.option("--gated", panel=options.HOW, metavar="NAME", help="Weights of a gated MLP: gate or up.")
]
Important = Annotated[
    int,
    options.option("--importance", panel=options.HOW, min=0, metavar="N",
                   help="Examples of a feature whose tokens get their importance: 22 short passes for each token "
                        "that is an example; the time is said when it begins."),
]  # fmt: skip
Sae = Annotated[
    Path | None,
    options.option("--sae", panel=options.WHAT, metavar="FILE",
                   help="Look at the latents of this autoencoder: safetensors with W_enc, b_enc, W_dec, b_dec."),
]  # fmt: skip
At = Annotated[
    str | None,
    options.option("--at", panel=options.WHAT, metavar="NAME", help="What it reads: output:MODULE, input:MODULE."),
]  # fmt: skip
Target = Annotated[
    str | None,
    options.option("--target", panel=options.WHAT, metavar="NAME",
                   help="What a transcoder rebuilds, named alike; b_dec is then not subtracted first."),
]  # fmt: skip
Active = Annotated[
    int | None,
    options.option("--active", panel=options.WHAT, min=1, metavar="K", help="Latents a TopK autoencoder keeps."),
]
Explorer = Annotated[
    bool,
    options.option("--explorer/--no-explorer", panel=options.SAID, metavar="",
                   help="Write DIR/explorer, pages of every neuron that open from the disk."),
]  # fmt: skip


def command(
    ctx: typer.Context,
    out: finding.Out,
    model: options.LanguageModel = "minilm",
    corpus: own.CorpusOf = None,
    block: own.Block = None,
    site: SiteOf = "ln2_out",
    fold: FoldOf = "none",
    gated: GatedOf = "gate",
    sae: Sae = None,
    at: At = None,
    target: Target = None,
    active: Active = None,
    top: Top = 100,
    share: Share = 0.75,
    cut: Cut = 0.2,
    linkage: Joined = "average",
    importance: Important = 0,
    length: Annotated[
        int, options.option("--length", panel=options.HOW, min=1, metavar="N", help="Tokens of a sequence.")
    ] = 128,
    limit_tokens: own.LimitTokens = 50_000,
    text_key: own.TextKey = "text",
    batch: own.Batch = None,
    dtype: own.Dtype = "float32",
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    figures: options.Figures = True,
    explorer: Explorer = True,
) -> None:
    """Find what makes each neuron, or latent of an autoencoder, fire most, and group it by neuron embeddings.

    An embedding is what the neuron receives at a token, times its weights. One pass over a corpus keeps the top
    examples of every neuron, exactly. Their clusters are the features of the neuron; how many there are, and how
    far apart, says how polysemantic it is. The explorer shows all of them.
    """
    talk: Talk = ctx.obj
    finding.require_free(out, overwrite=overwrite)
    values.finite("--share", share)
    values.positive("--cut", cut)
    if (sae is None) != (at is None):
        raise UsageError("an autoencoder and what it reads go together", fix="--sae FILE --at output:MODULE")
    where = values.device(device, "auto")
    if corpus is None:
        raise UsageError("no text to read", fix="--corpus FILE or DIR, or --corpus stdlib")

    from polykern.autoencoders import SparseAutoencoder
    from polykern.neurons import embeddings
    from polykern.neurons.clusters import LINKAGES
    from polykern.neurons.neurons import FOLDS, GATED, SITES

    for name, word, words in (
        ("--linkage", linkage, LINKAGES), ("--site", site, SITES), ("--fold", fold, FOLDS),
        ("--gated", gated, GATED),
    ):  # fmt: skip
        values.one_of(name, word, words)
    read = None if sae is None else SparseAutoencoder.of_file(sae, k=active, subtract=target is None)
    with talk.progress("done") as progress:
        found = embeddings(
            model, corpus, blocks=block, site=site, fold=fold, gated=gated, sae=read, at=at, target=target,  # type: ignore[arg-type]
            top=top, share=share, cut=cut, linkage=linkage, importance=importance, length=length,  # type: ignore[arg-type]
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
        if layer.autoencoder is not None:
            q = layer.autoencoder
            error = "not known" if q["error"] is None else f"{q['error']:.4f} of the variance"
            rows.append(("rebuilt", f"error {error}, {q['l0']:.1f} active on a token, {q['dead']:.1%} dead"))
    return rows
