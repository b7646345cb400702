"""Codes of tokens: a language model reads a corpus."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polykern.capturing.corpus import Corpus
from polykern.capturing.sampling import Sampling
from polykern.capturing.sequences import Cutter, Part, Tally
from polykern.capturing.sequences import Sequence as Tokens
from polykern.capturing.unit import State, Unit, ordered
from polykern.capturing.watch import Kept, Watch
from polykern.errors import CorruptError, UsageError
from polykern.models.language import Language
from polykern.models.vocabulary import Pieces
from polykern.store import Texts

TOGETHER, MOST = 1 << 19, 256  # characters and documents that are cut into tokens at a time
BATCH = 4096  # tokens of a pass
AHEAD = 8  # passes' worth of sequences are sorted by length, which spares padding


class TextSource:
    """A language model and a corpus.

    language   the model
    corpus     the documents
    watch      of the model, by tokens
    length     tokens of a sequence; None: 1024, or as many as the model can read
    pack       documents one behind the other; None: for causal models
    sampling   which tokens are kept
    limit      tokens that are kept, at most; None: no limit
    batch      tokens of a pass, padding included

    Columns: doc, the number of the sequence; pos, the token in it; token, its id; corpus where there are several.
    """

    items, noun = "text", "tokens"

    def __init__(
        self, language: Language, corpus: Corpus, watch: Watch, *, length: int | None = None,
        pack: bool | None = None, sampling: Sampling | None = None, limit: int | None = None, batch: int = BATCH,
    ) -> None:  # fmt: skip
        self.language, self.corpus, self.watch = language, corpus, watch
        self.length = language.length if length is None else length
        if self.length > (language.longest or self.length):
            raise UsageError(f"{language.name} reads {language.longest} tokens at once, not {self.length}")
        self.pack = bool(language.causal) if pack is None else pack
        self.sampling, self.limit, self.batch = sampling or Sampling(), limit, batch
        self.cutter = Cutter(language.vocabulary, self.length, pack=self.pack)
        several = len(corpus.names) > 1
        self.columns: tuple[str, ...] = ("doc", "pos", "token", "corpus") if several else ("doc", "pos", "token")
        self._rows = 0

    @property
    def window(self) -> int:
        """Sequences that are read before they are run."""
        return max(1, (1 if self.pack else AHEAD) * self.batch // self.length)

    @property
    def ahead(self) -> int:
        """As many as are run together; none of a pipe, which may make a reader wait for ever."""
        return self.window if self.again else 0

    @property
    def counted(self) -> str:
        """Tokens where their number is limited, else bytes of files."""
        return "bytes of text" if self.limit is None else "tokens"

    @property
    def again(self) -> bool:
        """Whether the corpus can be read a second time."""
        return self.corpus.again

    def config(self) -> dict[str, Any]:
        """Everything that changes a byte of the store."""
        parameter = next(self.language.model.parameters())
        return {
            "model": {"name": self.language.name, "weights": self.language.weights},
            "dtype": str(parameter.dtype).removeprefix("torch."),
            "device": parameter.device.type,
            "corpus": self.corpus.identity(),
            "text_key": self.corpus.key,
            "length": self.length,
            "pack": self.pack,
            "tokens": str(self.sampling),
            "skip": self.sampling.skip,
            "limit_tokens": self.limit,
            "limit_documents": self.corpus.limit,
        }

    def about(self) -> dict[str, Any]:
        """What people want to know."""
        separator = self.language.vocabulary.separator
        name = None if separator is None else self.language.vocabulary.name(separator)
        model = {"name": self.language.name, "note": self.language.note, "weights": self.language.weights}
        return {
            "kind": "text", "model": model, "corpora": self.corpus.names, "separator": name if self.pack else None,
        }  # fmt: skip

    def summary(self) -> dict[str, Any]:
        """What was passed over, and how many documents held bytes that are no UTF-8."""
        passed, listed, replaced = self.corpus.tally
        return {
            "passed_over": passed, "passed_over_first": list(listed), "parts_with_replaced_bytes": replaced,
        }  # fmt: skip

    def probe(self) -> None:
        """Run a few tokens, so that the layout is known."""
        room = min(8, self.length)
        tokens = torch.arange(1, room + 1).remainder(len(self.language.vocabulary))[None]
        self.watch.run(self._moved(self.language.inputs(tokens)))

    def units(self, state: State | None) -> Iterator[Unit]:
        """The sequences behind a state."""
        place, doc, skip = None, 0, 0
        self._rows, self.corpus.tally = 0, self.corpus.begun
        if state is not None:
            place, doc, skip = dict(state["place"]), int(state["doc"]), int(state["place"]["token"])
            self._rows = int(state["rows"])
            self.corpus.tally = Tally(state["passed"], tuple(state["listed"]), state["replaced"])
        for sequence in self.cutter.sequences(self._tokens(self.corpus.parts(place)), skip):
            if self.limit is not None and self._rows >= self.limit:
                return
            unit = self._unit(doc, sequence)
            if unit.rows:
                doc += 1
                yield unit

    def run(self, units: Sequence[Unit]) -> Kept:
        """The codes of the kept tokens of some sequences."""
        parts = [(numbers, self._pass([units[k] for k in numbers])) for numbers in self.passes(units)]
        return ordered(parts, [u.rows for u in units])

    def passes(self, units: Sequence[Unit]) -> list[list[int]]:
        """The numbers of the sequences that are run together, the longest first."""
        lengths = [len(u.data.ids) for u in units]
        passes: list[list[int]] = []
        for k in sorted(range(len(units)), key=lambda k: -lengths[k]):
            if not passes or (len(passes[-1]) + 1) * lengths[passes[-1][0]] > self.batch:
                passes.append([])
            passes[-1].append(k)
        return passes

    def inputs(self, units: Sequence[Unit]) -> tuple[dict[str, Any], Tensor]:
        """What the model is called with for some sequences, and which of its rows are kept, int64 (n).

        A row is a sequence * the tokens of the longest + a token.
        """
        lengths = torch.tensor([len(u.data.ids) for u in units])
        wide = int(lengths.max())
        tokens = torch.zeros(len(units), wide, dtype=torch.int64)
        for row, unit in zip(tokens, units, strict=True):
            row[: len(unit.data.ids)] = torch.from_numpy(unit.data.ids)
        keep = np.concatenate([k * wide + u.keep for k, u in enumerate(units)])
        padded = bool((lengths < wide).any())
        return self._moved(self.language.inputs(tokens, lengths if padded else None)), torch.from_numpy(keep)

    def seen(self, units: Sequence[Unit]) -> Texts:
        """The sequences, with the piece of text that each token stands for."""
        every: list[Tokens] = [u.data for u in units]
        base = np.cumsum([0, *(len(s.utf8) for s in every)])
        return Texts(
            document=np.array([u.doc for u in units], np.int32),
            document_ends=np.cumsum([len(s.ids) for s in every], dtype=np.int64),
            tokens=np.concatenate([s.ids for s in every]),
            piece_ends=np.concatenate([s.ends + b for s, b in zip(every, base, strict=False)]),
            utf8=np.frombuffer(b"".join(s.utf8 for s in every), np.uint8),
        )

    def largest(self) -> Unit:
        """A sequence of full length."""
        ids = np.arange(1, self.length + 1, dtype=np.int32) % len(self.language.vocabulary)
        keep = self.sampling.positions(self.length)
        text, none = np.ones(self.length, bool), np.zeros(self.length, np.int32)
        ends = np.arange(1, self.length + 1, dtype=np.int64) * 4
        whole = Tokens(ids, text, none, ends, b" " * (4 * self.length), ("nothing",), {}, Tally())
        return Unit(0, {}, keep, whole, "nothing", 16 * self.length, {})

    def load(self, units: Sequence[Unit]) -> int:
        """Tokens, padding included."""
        return len(units) * max(len(u.data.ids) for u in units)

    def most(self) -> int | None:
        """The limit of tokens."""
        return self.limit

    def expected(self, units: Sequence[Unit]) -> int | None:
        """Tokens that are kept: as many for a byte of text as in these."""
        corpus, kept = self.corpus, sum(u.rows for u in units)
        found = [self.limit] if self.limit is not None else []
        if not corpus.limit and corpus.size is not None and corpus.consumed:
            share = corpus.text / max(1, corpus.consumed)  # bytes of text in a byte of a file
            text = sum(len(u.data.utf8) for u in units)
            found.append(round(kept * corpus.size * share / max(1, text)))
        elif corpus.limit:
            seen = 1 + units[-1].after["place"]["document"]
            found.append(kept if seen >= corpus.limit else round(kept * corpus.limit / seen))
        return min(found, default=None)

    def progress(self) -> tuple[int, int] | None:
        """Tokens where their number is limited, else bytes."""
        if self.limit is not None:
            return min(self._rows, self.limit), self.limit
        return None if self.corpus.size is None else (self.corpus.consumed, self.corpus.size)

    # --- inside ---------------------------------------------------------------------------------

    def _tokens(self, parts: Iterable[Part]) -> Iterator[tuple[Part, Pieces]]:
        """Documents with their tokens, cut several at a time."""
        held: deque[Part] = deque()
        size = 0
        for part in parts:
            held.append(part)
            size += len(part.text)
            if size >= TOGETHER or len(held) >= MOST:
                yield from self._cut(held)
                size = 0
        yield from self._cut(held)

    def _cut(self, held: deque[Part]) -> Iterator[tuple[Part, Pieces]]:
        pieces = self.language.vocabulary.pieces([part.text for part in held])
        for found in pieces:
            yield held.popleft(), found

    def _unit(self, doc: int, s: Tokens) -> Unit:
        keep = self.sampling.positions(len(s.ids))
        keep = keep[s.text[keep]]
        if self.limit is not None:
            keep = keep[: self.limit - self._rows]
        self._rows += len(keep)
        columns = {"doc": np.full(len(keep), doc, np.int32), "pos": keep.astype(np.int32), "token": s.ids[keep]}
        if "corpus" in self.columns:
            columns["corpus"] = s.corpora[keep]
        names = s.documents[0] + (f" and {len(s.documents) - 1} more" if len(s.documents) > 1 else "")
        after = {"place": s.after, "doc": doc + bool(len(keep)), "rows": self._rows, **s.tally._asdict()}
        return Unit(doc, columns, keep, s, names, 12 * len(s.ids) + len(s.utf8) + 12, after)

    def _pass(self, units: Sequence[Unit]) -> Kept:
        """One forward pass; where a pre-activation is NaN, one for each sequence, to say whose it is."""
        try:
            return self._joint(units)
        except CorruptError as error:
            if len(units) == 1:
                raise CorruptError(
                    f"{error.what}, in sequence {units[0].doc}: {units[0].label}", why=error.why
                ) from error
            return ordered([([k], self._pass([unit])) for k, unit in enumerate(units)], [u.rows for u in units])

    def _joint(self, units: Sequence[Unit]) -> Kept:
        return self.watch.run(*self.inputs(units))

    def _moved(self, inputs: dict[str, Any]) -> dict[str, Any]:
        device = next(self.language.model.parameters()).device
        return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in inputs.items()}
