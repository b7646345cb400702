"""`pk.embeddings`: a language model and a corpus to the features of all its neurons."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.capturing.prepare import Choice, text
from polykern.capturing.text import TextSource
from polykern.capturing.unit import Unit
from polykern.capturing.watch import INPUT, mlps
from polykern.errors import UsageError
from polykern.findings import RECORDED
from polykern.models.language import Language, language
from polykern.neurons.clusters import CUT, KINDS, Features, Linkage, features
from polykern.neurons.examples import Examples, TopExamples
from polykern.neurons.neurons import Neurons, neurons_of
from polykern.neurons.result import Embeddings, Layer, layer
from polykern.neurons.similar import similar
from polykern.ranks import Ranks, ranks
from polykern.selectors import Select
from polykern.versions import recorded

TOP = 100
SHARE = 0.75  # of a neuron's largest activation, above which an example counts
CHUNK = 256  # neurons that are clustered at a time
LENGTH = 128  # tokens of a sequence
Progress = Callable[[str, int, int], None]


def embeddings(
    model: str | Language,
    data: str | Path | Sequence[str | Path],
    *,
    select: Select | None = None,
    blocks: Sequence[int] | None = None,
    top: int = TOP,
    share: float = SHARE,
    cut: float = CUT,
    linkage: Linkage = "average",
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
    top           examples of a neuron at most, one a sequence; a neuron that has as many is marked `capped`
    share         an example counts whose activation is above this share of the neuron's largest
    cut           distance below which examples merge into one feature
    linkage       "average", or "single": connected components
    length        tokens of a sequence
    limit_tokens  at which reading stops
    device        of the model
    progress      hears (stage, done, total)
    reading       as of `capture` for text: pack, text_key, limit_documents, strict, batch, dtype

    One pass over the data; the top examples equal those of a full sort, ties to the earlier token. Of W processes
    (`polykern.ranks`) each runs every W-th pass, and all give the result of one, bit for bit. What a neuron
    receives is the input of its linear module, LayerNorm and its gain included where the model has them there, so
    that an embedding sums, with the bias, to the pre-activation. Foote 2024, "Tackling Polysemanticity with Neuron
    Embeddings".

    Errors: UsageError for what does not exist or fit; CorruptError where a pre-activation is NaN.
    """
    if top < 1 or not 0 <= share < 1:
        raise UsageError(f"top {top} and share {share:g} keep no examples", fix="take top >= 1 and 0 <= share < 1")
    tell = progress or (lambda stage, done, total: None)
    reader = language(model) if isinstance(model, str) else model
    chosen: Select = select if select is not None else mlps(blocks)
    reader.model.to(device)
    every = neurons_of(reader.model, lambda: reader.model(**_few(reader, device)), chosen)
    kept = {n.field: torch.float32 for n in every} | {INPUT + n.module: torch.float32 for n in every}
    source = text(
        reader, data, Choice(select=chosen, activations=kept), length=min(length, reader.length),
        limit_tokens=limit_tokens, device=device, **reading,
    )  # fmt: skip
    found, token, piece, start = _read(source, every, top, tell)
    layers = []
    for k, (neurons, examples) in enumerate(zip(every, found, strict=True)):
        tell("layers", k, len(every))
        layers.append(_layer(neurons, examples, share, cut, linkage))
    tell("layers", len(every), len(every))
    settings = {
        "corpus": source.corpus.identity(), "length": source.length, "tokens": len(token), "top": top,
        "share": share, "cut": cut, "linkage": linkage,
    }  # fmt: skip
    about = {"model": {"name": reader.name, "weights": reader.weights, "note": reader.note}, "settings": settings}
    return Embeddings({**about, "versions": recorded(*RECORDED)}, layers, token, piece, start)


def _few(reader: Language, device: str) -> dict[str, Any]:
    tokens = torch.arange(1, 9).remainder(len(reader.vocabulary))[None]
    return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in reader.inputs(tokens).items()}


def _read(
    source: TextSource, every: Sequence[Neurons], top: int, tell: Progress
) -> tuple[list[Examples], NDArray[np.int32], list[str], NDArray[np.int64]]:
    """The top examples of every layer, and the tokens that were read: ids, text, where sequences begin."""
    running = [TopExamples(len(n), n.weight.shape[1], top) for n in every]
    token: list[NDArray[np.int32]] = []
    piece: list[str] = []
    lengths: list[int] = []
    at = ranks()
    for number, units in enumerate(_together(source)):
        rows = torch.tensor([u.rows for u in units])
        kept = source.run(units) if number % at.size == at.rank else None
        for n, examples in zip(every, running, strict=True):
            if kept is None:
                examples.skip(rows)
            else:
                examples.add(kept.activations[n.field], kept.activations[INPUT + n.module], rows)
        for u in units:
            token.append(u.columns["token"])
            piece += _pieces(u)
        lengths += rows.tolist()
        if reached := source.progress():
            tell("tokens", *reached)
    if not token:
        raise UsageError("there are no tokens to read", why="the data are empty, or all is left out")
    for examples in running:
        examples.share(at)
    return [r.examples() for r in running], np.concatenate(token), piece, np.cumsum([0, *lengths[:-1]])


def _together(source: TextSource) -> Iterator[list[Unit]]:
    pending: list[Unit] = []
    for unit in source.units(None):
        pending.append(unit)
        if len(pending) >= source.window:
            yield pending
            pending = []
    if pending:
        yield pending


def _pieces(unit: Unit) -> list[str]:
    """The text of the kept tokens of a sequence; what is no whole character shows as one that says so."""
    sequence = unit.data
    begins = np.concatenate([[0], sequence.ends[:-1]])
    return [
        bytes(sequence.utf8[begins[k] : sequence.ends[k]]).decode("utf-8", "replace") for k in unit.keep.tolist()
    ]


def _layer(neurons: Neurons, found: Examples, share: float, cut: float, linkage: Linkage) -> Layer:
    activation = torch.where(found.row >= 0, neurons.activated(found.value), 0.0)
    largest = activation[:, :1]
    kept = ((activation > share * largest) & (found.row >= 0)).sum(1).masked_fill(largest[:, 0] <= 0, 0).numpy()
    here, parts = ranks(), list[Features | None]()
    for number, first in enumerate(range(0, len(neurons), CHUNK)):
        some, mine = slice(first, first + CHUNK), number % here.size == here.rank
        of = (found.received(some), neurons.weight[some], kept[some]) if mine else None
        parts.append(features(*of, cut=cut, linkage=linkage) if of else None)
    joined = _joined(parts, here)
    neuron, example = torch.from_numpy(joined.central[:, 0]), torch.from_numpy(joined.central[:, 2])
    at = torch.searchsorted(found.token, found.row[neuron, example])
    return layer(neurons.field, found, activation, joined, *similar(found.inputs[at], joined.central[:, 0]))


def _joined(parts: Sequence[Features | None], at: Ranks) -> Features:
    """The features of chunks of neurons, each from the rank that has it; the neurons of `central` counted on."""
    every: dict[str, list[NDArray[Any]]] = {name: [] for name in KINDS}
    for k, part in enumerate(parts):
        for name, dtype in KINDS.items():
            own = np.empty(0, dtype) if part is None else getattr(part, name)
            every[name].append(at.gathered(torch.from_numpy(own))[k % at.size].numpy())
        every["central"][k] = every["central"][k] + np.array([CHUNK * k, 0, 0])
    return Features(**{name: np.concatenate(found) for name, found in every.items()})
