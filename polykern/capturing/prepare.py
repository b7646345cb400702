"""What is to be captured, put together from the words of a caller."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import nn

from polykern.capturing.batches import BatchSource
from polykern.capturing.corpus import Corpus
from polykern.capturing.pictures import PictureSource, Places
from polykern.capturing.sampling import Sampling
from polykern.capturing.text import BATCH, TextSource
from polykern.capturing.unit import Source
from polykern.capturing.watch import Rows, Watch, dtype_of, mlps
from polykern.errors import UsageError
from polykern.models import KNOWN, Subject, load
from polykern.models.language import Language, given, language
from polykern.names import LANGUAGES, registered
from polykern.selectors import Select

WIDER = 8  # times as many tokens in a pass on a GPU


@dataclass(frozen=True)
class Choice:
    """Which nonlinearities make the code, and what is kept beside it.

    select        globs or a predicate (`polykern.selectors`); None: all, of a language model the MLPs
    start, stop   modules between which they lie
    blocks        of a transformer, by number; None: all
    first_block   only the blocks from this one on: codes from a layer to the output
    activations   name -> dtype, as `polykern.capturing.watch.Watch`
    """

    select: Select | None = None
    start: str = ""
    stop: str = ""
    blocks: Sequence[int] | None = None
    first_block: int | None = None
    activations: Mapping[str, torch.dtype] = field(default_factory=dict)

    def watch(self, model: nn.Module, rows: Rows) -> Watch:
        """The watch of a model."""
        counted = self.blocks is not None or self.first_block is not None
        if counted and self.select is not None:
            raise UsageError("blocks by number and a selector are two ways to say the same", fix="leave one out")
        select = self.select
        if select is None:
            select = mlps(self.blocks, self.first_block) if counted or rows == "tokens" else "*"
        return Watch(
            model, select=select, start=self.start, stop=self.stop, rows=rows, activations=self.activations
        )


def text(
    model: str | Language,
    corpus: str | Path | Sequence[str | Path],
    choice: Choice | None = None,
    *,
    length: int | None = None,
    pack: bool | None = None,
    tokens: str = "every",
    skip: int | None = None,
    text_key: str = "text",
    limit_tokens: int | None = None,
    limit_documents: int | None = None,
    strict: bool = False,
    batch: int | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    stdin: IO[bytes] | None = None,
) -> TextSource:
    """A language model that reads a corpus; see `polykern.capturing.capture`."""
    words = [corpus] if isinstance(corpus, str | Path) else list(corpus)
    documents = Corpus(words, key=text_key, limit=limit_documents, strict=strict, stdin=stdin)
    reader = language(model, dtype=dtype_of(dtype)) if isinstance(model, str) else model
    reader.model.to(device)
    watch = (choice or Choice()).watch(reader.model, "tokens")
    source = TextSource(
        reader, documents, watch, length=length, pack=pack, sampling=Sampling.of(tokens, skip), limit=limit_tokens,
        batch=batch or BATCH * (WIDER if device != "cpu" else 1),
    )  # fmt: skip
    source.probe()
    return source


def pictures(
    model: str | Subject,
    folder: str | Path | None = None,
    choice: Choice | None = None,
    *,
    at: Places = "whole",
    limit: int | None = None,
    strict: bool = False,
    batch: int | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> PictureSource:
    """A network that looks at pictures; see `polykern.capturing.capture`."""
    subject = load(model, seed=seed) if isinstance(model, str) else model
    subject.model.to(device)
    watch = (choice or Choice()).watch(subject.model, "items" if at == "whole" else "cells")
    more = {} if batch is None else {"batch": batch}
    path = None if folder is None else Path(folder).expanduser()
    source = PictureSource(subject, watch, folder=path, at=at, limit=limit, strict=strict, **more)
    source.probe()
    return source


def batches(
    model: nn.Module,
    data: Iterable[Any],
    choice: Choice | None = None,
    *,
    rows: Rows = "items",
    name: str = "",
    config: Mapping[str, Any] | None = None,
) -> BatchSource:
    """A model that is run on the caller's batches; see `polykern.capturing.capture`."""
    if rows == "cells":
        raise UsageError('rows are "items" or "tokens"')
    choice = choice or Choice()
    if rows == "items" or choice.select is not None:
        choice = Choice(choice.select or "*", choice.start, choice.stop, None, None, choice.activations)
    source = BatchSource(model, data, choice.watch(model, rows), name=name, config=config)
    source.probe()
    return source


def reads_text(model: object) -> bool:
    """Whether a model, or the word for one, is a language model."""
    if isinstance(model, str):
        return model in LANGUAGES or not (model in KNOWN or model.find(":") > 0 or model in registered())
    return isinstance(model, Language)


def source_of(model: object, data: Any, choice: Choice, options: Mapping[str, Any]) -> Source:
    """The source for a model and its data, by what they are; options as of `text`, `pictures` and `batches`."""
    make: Callable[..., Source] = pictures
    taken: Any = model
    if isinstance(model, nn.Module):
        make = batches
    elif reads_text(model):
        make = text
    elif isinstance(model, str) and model not in KNOWN:
        taken = cast(Any, yours(model, options))
        make = text if reads_text(taken) else pictures
    unknown = sorted(set(options) - set(signature(make).parameters))
    if unknown:
        raise UsageError(f"{make.__name__} are captured without {unknown[0]!r}")
    return make(taken, data, choice, **options)


def yours(word: str, options: Mapping[str, Any]) -> Language | Subject:
    """What a function of the user's own gives: a language model, or else a subject."""
    try:
        return given(word, dtype_of(options.get("dtype", "float32")))
    except UsageError as error:
        if "return a Language" not in error.fix:
            raise
    return load(word, seed=options.get("seed", 0))
