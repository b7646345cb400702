"""One pass over a corpus: the top examples of the neurons of every layer, and the tokens that were read.

The top examples stay on the model's device until all is read: a batch sends token ids there, nothing comes back.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.capturing.text import TextSource
from polykern.capturing.unit import Unit
from polykern.errors import CorruptError, UsageError
from polykern.neurons.examples import Examples, TopExamples
from polykern.neurons.passes import taken
from polykern.progress import Progress
from polykern.ranks import Ranks, ranks

Taken = Mapping[str, Tensor]  # name -> float (t, width), what a pass kept


class Group(Protocol):
    """Neurons with one input: those of a nonlinearity, or the latents of a sparse autoencoder."""

    @property
    def field(self) -> str:
        """Its name."""
        ...

    @property
    def weight(self) -> Tensor:
        """float32 (n, d): input weights, a row a neuron."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """What a pass has to keep."""
        ...

    def values(self, taken: Taken) -> Tensor:
        """float (t, n): what orders the examples of each neuron."""
        ...

    def inputs(self, taken: Taken) -> Tensor:
        """float (t, d): what is kept of an example's token."""
        ...

    def received(self, inputs: Tensor) -> Tensor:
        """float (m, d): what the neurons receive, made of what was kept."""
        ...

    def activated(self, z: Tensor) -> Tensor:
        """The activations of values."""
        ...


class Read(NamedTuple):
    """What was read.

    examples  of every group; their inputs are what the neurons received
    token     int32 (t)   ids of all tokens
    piece     list (t)    the text each stands for
    start     int64 (s)   where each sequence begins among them
    """

    examples: list[Examples]
    token: NDArray[np.int32]
    piece: list[str]
    start: NDArray[np.int64]


def read(
    source: TextSource,
    groups: Sequence[Group],
    top: int,
    tell: Progress,
    also: Callable[[Taken], None] | None = None,
) -> Read:
    """The top examples of every group.

    source  the model, with the corpus it reads
    top     examples a neuron
    tell    hears ("tokens", done, total)
    also    hears what every pass kept, without padding

    Of W processes (`polykern.ranks`) each runs every W-th pass, all of them where `also` has to hear; the result is
    that of one, bit for bit.
    Errors: UsageError where there is nothing to read; CorruptError naming a group whose values hold NaN.
    """
    device = next(source.language.model.parameters()).device
    here, count = ranks() if also is None else Ranks(), itertools.count()
    running: list[TopExamples] = []
    token: list[NDArray[np.int32]] = []
    piece: list[str] = []
    start = [0]  # of each sequence among all tokens, and their end
    names = {name for g in groups for name in g.names}
    for units in _together(source):
        begins = np.cumsum([start[-1], *(u.rows for u in units)])
        for numbers in source.passes(units):
            if next(count) % here.size != here.rank:
                continue
            some = [units[k] for k in numbers]
            inputs, keep = source.inputs(some)
            seen = {name: x[keep.to(device)] for name, x in taken(source.language.model, inputs, names).items()}
            if also is not None:
                also(seen)
            given = [(g.values(seen), g.inputs(seen)) for g in groups]
            running = running or [TopExamples(z.shape[1], x.shape[1], top, device) for z, x in given]
            rows = torch.tensor([u.rows for u in some])
            at, first = _padded(rows).to(device), torch.from_numpy(begins[numbers]).to(device)
            for (z, x), examples in zip(given, running, strict=True):
                examples.add(z[at], x[at], rows.to(device), first)
        for u in units:
            token.append(u.columns["token"])
            piece += _pieces(u)
        start += begins[1:].tolist()
        if reached := source.progress():
            tell("tokens", *reached)
    if not token:
        raise UsageError("there are no tokens to read", why="the data are empty, or all is left out")
    found = [_found(g, r) for g, r in zip(groups, _shared(running, top, device, here), strict=True)]
    return Read(found, np.concatenate(token), piece, np.array(start[:-1]))


def _shared(running: Sequence[TopExamples], top: int, device: torch.device, here: Ranks) -> Sequence[TopExamples]:
    """The top examples of all ranks; a rank that had no pass has none of its own."""
    sizes = next(said for said in here.heard([r.size for r in running]) if said)
    every = running or [TopExamples(neurons, width, top, device) for neurons, width in sizes]
    for examples in every:
        examples.share(here)
    return every


def _found(group: Group, running: TopExamples) -> Examples:
    try:
        found = running.examples()
    except CorruptError as error:
        raise CorruptError(f"{group.field}: {error.what}") from error
    return Examples(found.value, found.row, found.window, found.token, group.received(found.inputs))


def _padded(rows: Tensor) -> Tensor:
    """int64 (s, longest): the numbers of each sequence's tokens; behind its end its last one again."""
    ends = rows.cumsum(0)[:, None]
    return torch.minimum(ends - rows[:, None] + torch.arange(int(rows.max())), ends - 1)


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
    sequence: Any = unit.data
    begins = np.concatenate([[0], sequence.ends[:-1]])
    return [
        bytes(sequence.utf8[begins[k] : sequence.ends[k]]).decode("utf-8", "replace") for k in unit.keep.tolist()
    ]
