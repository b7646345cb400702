"""`pk.residual`: a language model to what scaling and interpolating its residual stream change in its MLPs."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from polykern.errors import CorruptError, UsageError
from polykern.findings import provenance
from polykern.models.language import Language
from polykern.models.text import SENTENCES
from polykern.progress import Progress
from polykern.streams.blocks import Blocks, blocks_of
from polykern.streams.interpolated import STEPS, Plateaus, plateaus
from polykern.streams.norms import is_norm
from polykern.streams.rescaling import NORMS, rescaled
from polykern.streams.result import Residual
from polykern.tail import Tail

SCALED = (0.1, 0.25, 0.5, 2.0, 4.0, 10.0)
TEXTS, TOKENS = 12, 8
ABSENT = "absent"


def residual(
    language: Language,
    texts: Sequence[str] = SENTENCES,
    *,
    block: int | None = None,
    scales: Sequence[float] = SCALED,
    count: int = TEXTS,
    tokens: int = TOKENS,
    steps: int = STEPS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Residual:
    """Bits of every MLP that change when the residual stream is scaled, and along the way from one text to another.

    language  a pre-norm transformer: `polykern.models.language.language(...)`, GPT-2 and Llama and their kin; or a
              checkpoint without LayerNorms, from its folder
    texts     whose first tokens are read
    block     in front of whose MLP the stream is scaled; None: the middle one
    scales    factors
    count     of texts, the first ones that are long enough; each two in turn are the ends of an interpolation
    tokens    of a text
    steps     of an interpolation of the last token's vector, behind the first block
    seed      of the intervals
    progress  called with (stage, done, total)
    returns   Residual

    Scaling is looked at with each kind of norms that `rescaled` knows, or once where a model has none; frozen
    norms are left out where they let a gated network grow beyond float64 (`overflown` in the settings). Evaluated
    in float64. Black et al. 2022, comments on LayerNorm; Janiak et al. 2024, "Characterizing stable regions in
    the residual stream of LLMs" (arXiv:2409.17113). Errors: UsageError for too few texts of that length, a block
    that there is not, or a model of another kind.
    """
    blocks = blocks_of(language.model)
    at = blocks.count // 2 if block is None else block
    if not 0 <= at < blocks.count or blocks.count < 2:
        raise UsageError(f"there is no block {at} to scale at", why=f"the model has {blocks.count} blocks")
    batch = _batch(language, texts, count, tokens)
    bare = not any(is_norm(m) for m in language.model.modules())
    conditions = (ABSENT,) if bare else NORMS
    total = len(conditions) + count // 2
    scaled, overflown = {}, []
    for k, norms in enumerate(conditions):
        if progress:
            progress("residual", k, total)
        try:
            scaled[norms] = rescaled(
                language.model, language.inputs(batch), f"{blocks.prefix}.{at}", blocks.attention, scales=scales,
                norms="live" if bare else norms,
            )  # fmt: skip
        except CorruptError:
            if norms != "frozen":
                raise
            overflown.append(norms)
    ways = []
    for way in _interpolated(language, blocks, batch, steps):
        ways.append(way)
        if progress:
            progress("residual", len(conditions) + len(ways), total)
    about = provenance(
        language, seed=seed, block=at, blocks=blocks.count, texts=count, tokens=tokens, steps=steps,
        scales=list(scales), norms=list(scaled), overflown=overflown,
    )  # fmt: skip
    return Residual(about, scaled, tuple(ways), at, seed)


def _interpolated(language: Language, blocks: Blocks, batch: Tensor, steps: int) -> list[Plateaus]:
    start = f"{blocks.prefix}.1"
    sample = language.inputs(batch[:1])
    tail = Tail(language.model, sample, start)
    streams = _entering(language, start, batch)
    head = head_of(language)
    return [
        plateaus(tail, a, b, f"{blocks.prefix}.*.{blocks.middle}", head=head, steps=steps)
        for a, b in list(pairwise(streams))[::2]
    ]


def head_of(language: Language) -> Tensor | None:
    """float (vocabulary, width): the rows that say the next token, where they are those of the embedding."""
    config = getattr(language.model, "config", None)
    embedding = getattr(language.model, "get_input_embeddings", lambda: None)()
    tied = bool(getattr(config, "tie_word_embeddings", False)) and bool(language.causal)
    return embedding.weight.detach() if tied and embedding is not None else None


def _entering(language: Language, start: str, batch: Tensor) -> Tensor:
    """float (texts, tokens, width): what enters a block."""
    seen: list[Tensor] = []
    module = language.model.get_submodule(start)
    handle = module.register_forward_pre_hook(lambda m, args: seen.append(args[0].detach().clone()))
    try:
        with torch.no_grad():
            language.model(**language.inputs(batch))
    finally:
        handle.remove()
    return seen[0]


def _batch(language: Language, texts: Sequence[str], count: int, tokens: int) -> Tensor:
    """int64 (count, tokens): the first tokens of texts."""
    if count < 4 or tokens < 2:
        raise UsageError(f"four texts at least, of two tokens at least, got {count} and {tokens}")
    opening = list(language.vocabulary.opening)
    rows = [[*opening, *piece.ids.tolist()][:tokens] for piece in language.vocabulary.pieces(texts)]
    long = [row for row in rows if len(row) == tokens]
    if len(long) < count:
        raise UsageError(f"{len(long)} of {len(rows)} texts have {tokens} tokens", why=f"{count} are asked for")
    return torch.tensor(long[:count])
