"""`pk.embeddings`: a language model and a corpus to the features of its neurons, or of an autoencoder's latents."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polykern.autoencoders import SparseAutoencoder
from polykern.capturing.prepare import Choice, text
from polykern.capturing.text import TextSource
from polykern.capturing.watch import mlps
from polykern.errors import UsageError
from polykern.findings import RECORDED
from polykern.models.language import Language, language
from polykern.neurons.clusters import CUT, Linkage
from polykern.neurons.importance import importance as importance_of
from polykern.neurons.latent import Latents, Quality
from polykern.neurons.layers import clustered
from polykern.neurons.neurons import Fold, Gated, Site, neurons_of
from polykern.neurons.reading import Group, Read, read
from polykern.neurons.result import Embeddings, Layer
from polykern.progress import Progress, silent
from polykern.selectors import Select
from polykern.versions import recorded
from polykern.wrappers import moved

TOP = 100
SHARE = 0.75  # of a neuron's largest activation, above which an example counts
LENGTH = 128  # tokens of a sequence


def embeddings(
    model: str | Language,
    data: str | Path | Sequence[str | Path],
    *,
    select: Select | None = None,
    blocks: Sequence[int] | None = None,
    site: Site = "ln2_out",
    fold: Fold = "none",
    gated: Gated = "gate",
    sae: SparseAutoencoder | None = None,
    at: str | None = None,
    target: str | None = None,
    top: int = TOP,
    share: float = SHARE,
    cut: float = CUT,
    linkage: Linkage = "average",
    importance: int = 0,
    length: int = LENGTH,
    limit_tokens: int | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    **reading: Any,
) -> Embeddings:
    """What makes each neuron of a language model fire, in clusters of neuron embeddings.

    model         minilm, gpt2, smollm2, a folder, a name on the hub, or a `Language`
    data          corpus: files, folders, "stdlib"
    select        nonlinearities whose neurons are looked at; None: those of the MLPs
    blocks        of the transformer, by number; None: all
    site          "ln2_out": neurons receive what the norm in front of them gives; "resid_mid": what it takes
    fold          the norm's gain: "none", in what they receive; "gain", in their weights; "tl", there, and the mean
                  of a neuron's weights subtracted, as TransformerLens has them
    gated         weights of a gated MLP: "gate", whose sign is the code, or "up"
    sae           None | a sparse autoencoder, whose latents are looked at in place of neurons
    at            input:MODULE or output:MODULE, what the autoencoder reads
    target        what a transcoder rebuilds, named alike; None: what it reads
    top           examples of a neuron at most, one a sequence; a neuron that has as many is marked `capped`
    share         an example counts whose activation is above this share of the neuron's largest
    cut           distance below which examples merge into one feature
    linkage       "average", or "single": connected components
    importance    examples of a feature whose tokens get their importance (`polykern.neurons.importance`); 0: none
    length        tokens of a sequence
    limit_tokens  at which reading stops
    device        of the model, and of all that is kept while it reads
    progress      hears (stage, done, total)
    reading       as of `capture` for text: pack, text_key, limit_documents, strict, batch, dtype

    One pass over the data; the top examples equal those of a full sort, ties to the earlier token. Of W processes
    (`polykern.ranks`) each runs every W-th pass, and all give the result of one, bit for bit. With the defaults a
    neuron receives the input of its linear module, LayerNorm and its gain included where the model has them there,
    so that an embedding sums, with the bias, to the pre-activation; a latent receives what its encoder does.
    Foote 2024, "Tackling Polysemanticity with Neuron Embeddings".

    Errors: UsageError for what does not exist or fit; CorruptError where a pre-activation is NaN.
    """
    if top < 1 or not 0 <= share < 1:
        raise UsageError(f"top {top} and share {share:g} keep no examples", fix="take top >= 1 and 0 <= share < 1")
    if importance < 0:
        raise UsageError(f"token importance of {importance} examples", fix="take 0 or more")
    tell = progress or silent
    reader = language(model) if isinstance(model, str) else model
    chosen: Select = select if select is not None else mlps(blocks)
    moved(reader.model, device)
    source = text(
        reader, data, Choice(select=chosen), length=min(length, reader.length), limit_tokens=limit_tokens,
        device=device, **reading,
    )  # fmt: skip
    groups: Sequence[Group]
    if sae is not None:
        groups = [_latents(sae, at, target, device)]
    else:
        call = _few(reader, device)
        groups = neurons_of(reader.model, lambda: reader.model(**call), chosen, site=site, fold=fold, gated=gated)
    layers, found = _layers(source, groups, tell, top, share, cut, linkage, importance)
    settings = {
        "corpus": source.corpus.identity(), "length": source.length, "tokens": len(found.token), "top": top,
        "share": share, "cut": cut, "linkage": linkage, "importance": importance,
    }  # fmt: skip
    settings |= {"site": site, "fold": fold, "gated": gated} if sae is None else {"at": at, "target": target}
    about = {"model": {"name": reader.name, "weights": reader.weights, "note": reader.note}, "settings": settings}
    return Embeddings({**about, "versions": recorded(*RECORDED)}, layers, found.token, found.piece, found.start)


def _latents(sae: SparseAutoencoder, at: str | None, target: str | None, device: str) -> Latents:
    if at is None:
        raise UsageError("an autoencoder without what it reads", fix="name input:MODULE or output:MODULE as at")
    return Latents(sae.to(torch.float32, device), at, target)


def _few(reader: Language, device: str) -> dict[str, Any]:
    tokens = torch.arange(1, 9).remainder(len(reader.vocabulary))[None]
    return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in reader.inputs(tokens).items()}


def _layers(
    source: TextSource, groups: Sequence[Group], tell: Progress,
    top: int, share: float, cut: float, linkage: Linkage, importance: int,
) -> tuple[list[Layer], Read]:  # fmt: skip
    """The layers, and what was read."""
    measured = [Quality(g) for g in groups if isinstance(g, Latents)]
    found = read(source, groups, top, tell, measured[0].add if measured else None)
    layers = []
    for k, (group, examples) in enumerate(zip(groups, found.examples, strict=True)):
        tell("layers", k, len(groups))
        layers.append(clustered(group, examples, share, cut, linkage))
    tell("layers", len(groups), len(groups))
    if measured:
        layers = [replace(layers[0], autoencoder=measured[0].numbers())]
    if importance:
        shares = importance_of(
            source.language, groups, found, [x.features for x in layers], examples=importance, batch=source.batch,
            tell=tell,
        )  # fmt: skip
        layers = [replace(x, importance=share) for x, share in zip(layers, shares, strict=True)]
    return layers, found
