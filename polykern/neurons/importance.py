"""Token importance: how far a neuron's activation on a token falls when a token before it is masked.

    drop_i = a(context) - a(context with token i masked)
    importance_i = drop_i / max(drop of the token itself, 0.01), at least 0 and at most 1

The context is the token with the 20 before it, read by itself between what the tokenizer puts around a text; a mask
is the tokenizer's padding token in its place. One context serves all neurons of all layers whose example it is: of
w tokens, with a around them, it costs (w + 1)(w + a) tokens of forward passes, a whole one 462 + 22 a. As released
with Foote 2024, "Tackling Polysemanticity with Neuron Embeddings".
"""

import logging
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.errors import UsageError
from polykern.models.language import Language
from polykern.neurons.clusters import Features
from polykern.neurons.examples import BACK
from polykern.neurons.passes import taken
from polykern.neurons.reading import Group, Read
from polykern.progress import Progress

CONTEXT = BACK + 1  # tokens
FLOOR = 0.01
log = logging.getLogger("polykern.neurons")


class _Wanted(NamedTuple):
    """Examples of one layer, by context: cluster, place among its examples, neuron, and the context's number."""

    cluster: NDArray[np.int64]
    slot: NDArray[np.int64]
    neuron: NDArray[np.int64]
    context: NDArray[np.int64]


def importance(
    reader: Language,
    groups: Sequence[Group],
    read: Read,
    features: Sequence[Features],
    *,
    examples: int,
    batch: int,
    tell: Progress,
) -> list[NDArray[np.float16]]:
    """The importance of the tokens of some examples of every cluster.

    reader    the model that `read` was made with
    groups    their neurons, and the clusters of each
    examples  of a cluster: the central one, then the strongest
    batch     tokens of a pass
    tell      hears ("token importance", tokens done, of)

    Returns of every group float16 (clusters, examples, 21), the last place the token itself; nan where there is no
    token or no example. Errors: UsageError where the tokenizer has nothing to mask with.
    """
    padding = reader.vocabulary.padding
    if padding is None:
        raise UsageError("the tokenizer has no padding token to mask with", fix="leave token importance out")
    rows = [_examples(r.row.cpu().numpy(), f, examples) for r, f in zip(read.examples, features, strict=True)]
    every = np.unique(np.concatenate([row for *_, row in rows]))
    first = np.maximum(read.start[np.searchsorted(read.start, every, side="right") - 1], every - BACK)
    order = np.lexsort((every, first - every))  # whole contexts first
    number = np.empty(len(every), np.int64)
    number[order] = np.arange(len(every))
    wanted = [_by_context(c, s, n, number[np.searchsorted(every, row)]) for c, s, n, row in rows]
    found = [np.full((len(f.members), examples, CONTEXT), np.nan, np.float16) for f in features]
    contexts = [read.token[a : b + 1] for a, b in zip(first[order], every[order], strict=True)]
    around = len(reader.vocabulary.opening) + len(reader.vocabulary.closing)
    total, done, began = tokens(contexts, around), 0, perf_counter()
    for some in _batches(contexts, around, batch):
        drops = _drops(reader, groups, np.stack(contexts[some]), padding)
        for w, drop, out in zip(wanted, drops, found, strict=True):
            inside = slice(*np.searchsorted(w.context, [some.start, some.stop]))
            fallen = drop[torch.from_numpy(w.context[inside] - some.start), :, torch.from_numpy(w.neuron[inside])]
            share = (fallen / fallen[:, -1:].clamp_min(FLOOR)).clamp(0, 1)
            out[w.cluster[inside], w.slot[inside], CONTEXT - fallen.shape[1] :] = share.half().numpy()
        done += tokens(contexts[some], around)
        if some.start == 0:
            _announce(len(contexts), total, (perf_counter() - began) * (total / done - 1))
        tell("token importance", done, total)
    return found


def tokens(contexts: Sequence[NDArray[np.int32]], around: int) -> int:
    """Tokens of the forward passes over some contexts, with `around` more around each."""
    return sum((len(ids) + 1) * (len(ids) + around) for ids in contexts)


def _announce(contexts: int, total: int, seconds: float) -> None:
    if seconds > 1:
        log.info("token importance of %s contexts: %s tokens, about %.0f s", f"{contexts:,}", f"{total:,}", seconds)


def _examples(row: NDArray[np.int64], features: Features, examples: int) -> tuple[NDArray[np.int64], ...]:
    """The cluster, place, neuron and token of the examples that are looked at."""
    found = []
    for c, (neuron, _, _) in enumerate(features.central.tolist()):
        for slot, e in enumerate(features.ordered(c)[:examples]):
            found.append((c, slot, neuron, int(row[neuron, e])))
    return tuple(np.array(found, np.int64).reshape(-1, 4).T)


def _by_context(*columns: NDArray[np.int64]) -> _Wanted:
    order = np.argsort(columns[-1], kind="stable")
    return _Wanted(*(column[order] for column in columns))


def _batches(contexts: Sequence[NDArray[np.int32]], around: int, batch: int) -> Iterator[slice]:
    """Contexts of one length, as many as a pass takes."""
    first = 0
    while first < len(contexts):
        width = len(contexts[first])
        last = first + max(1, batch // ((width + 1) * (width + around)))
        stop = next((k for k in range(first, min(last, len(contexts))) if len(contexts[k]) != width), None)
        last = min(last, len(contexts)) if stop is None else stop
        yield slice(first, last)
        first = last


def _drops(reader: Language, groups: Sequence[Group], ids: NDArray[np.int32], padding: int) -> list[Tensor]:
    """Of every group float32 (contexts, w, neurons): how far activations fall when a token is masked; on the CPU.

    ids  int32 (contexts, w)
    """
    count, w = ids.shape
    opening, closing = reader.vocabulary.opening, reader.vocabulary.closing
    wide = len(opening) + w + len(closing)
    text = torch.empty(count, w + 1, wide, dtype=torch.int64)
    text[..., : len(opening)] = torch.tensor(opening, dtype=torch.int64)
    text[..., len(opening) : len(opening) + w] = torch.from_numpy(ids).long()[:, None]
    text[..., len(opening) + w :] = torch.tensor(closing, dtype=torch.int64)
    place = torch.arange(w)
    text[:, 1 + place, len(opening) + place] = padding
    device = next(reader.model.parameters()).device
    given = reader.inputs(text.view(-1, wide))
    given = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in given.items()}
    last = torch.arange(count * (w + 1), device=device) * wide + len(opening) + w - 1
    seen = taken(reader.model, given, {name for g in groups for name in g.names})
    seen = {name: x[last] for name, x in seen.items()}
    active = [g.activated(g.values(seen).float()).view(count, w + 1, -1) for g in groups]
    return [(a[:, :1] - a[:, 1:]).cpu() for a in active]
