"""Captures: from a model and its data to a store of codes."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from polykern.capturing.batches import Batch as Batch
from polykern.capturing.record import SHARD, record
from polykern.capturing.record import Capture as Capture
from polykern.models import Subject
from polykern.models.language import Language as Language
from polykern.progress import Progress
from polykern.selectors import Select


def capture(
    model: str | nn.Module | Subject | Language,
    data: str | Path | Sequence[str | Path] | Iterable[Any] | None,
    out: str | Path,
    *,
    select: Select | None = None,
    start: str = "",
    stop: str = "",
    blocks: Sequence[int] | None = None,
    first_block: int | None = None,
    activations: Sequence[str] = (),
    shard_bytes: int = SHARD,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Capture:
    """Run a model over data and keep its spline codes in a store of `polykern-codes/1`.

    model        a language model (minilm, gpt2, smollm2, a folder or a name on the hub, a `Language`), which reads
                 a corpus; a name of the catalogue or a `Subject`, which looks at pictures; or an nn.Module, which
                 is run on batches
    data         corpus: files, folders, "stdlib" or "-"; a folder of pictures, or None for the model's own
                 examples; or an iterable of inputs (a tensor, a tuple of positional, a dict of keyword arguments, a
                 `Batch`)
    out          folder of the store; a run that was begun there goes on behind its last shard
    select       which nonlinearities make the code; None: all, of a language model those of the MLPs
    start, stop  modules between which they lie
    blocks       of a transformer, by number
    first_block  all blocks from this one on: the codes from a layer to the output
    activations  NAME or NAME:DTYPE (fp16, bf16, fp32): pre-activations of selected nonlinearities that are kept
                 beside the codes; output:MODULE or input:MODULE, with or without :DTYPE: what a module gives or
                 takes
    shard_bytes  at which the next sequence, picture or batch begins a new shard
    overwrite    a store that is there is removed first
    progress     hears (stage, done, total)
    options      text: length, pack, tokens ("every", "stride:N", "sample:N"), skip, text_key, limit_tokens,
                 limit_documents, strict, batch (tokens of a pass), dtype, device; pictures: at ("whole", "all",
                 "centre", (y, x)), limit, strict, batch, device, seed; batches: rows ("items", "tokens"), name,
                 config (JSON that says what the batches are)

    A bit is 1 where the pre-activation is above the threshold. Rows are ordered by (doc, pos). Every shard is a
    function of the configuration and its number: an interrupted run that is gone on with gives the same bytes.
    Codes do not depend on the batch up to the arithmetic of the model itself; a run goes on with the batch it was
    begun with. Black et al. 2022, "Interpreting Neural Networks through the Polytope Lens".

    Errors: UsageError for what does not exist or fit; MismatchError when another run's store is there; CorruptError
    when a pre-activation is NaN, naming the nonlinearity and the document; ResourceError when memory or disk do not
    suffice.
    """
    from polykern.capturing.prepare import Choice, source_of
    from polykern.capturing.watch import activations as kept

    choice = Choice(select, start, stop, blocks, first_block, kept(activations))
    source = source_of(model, data, choice, options)
    return record(source, out, shard_bytes=shard_bytes, overwrite=overwrite, progress=progress)
