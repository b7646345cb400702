"""A subject: a network ready to be looked at, with items of data it understands."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polykern.errors import CorruptError, UsageError
from polykern.walk import outputs_of
from polykern.wrappers import moved, network

Sample = Tensor | tuple[Tensor, ...] | dict[str, Tensor]
Thumbnail = NDArray[np.uint8]


class Example(NamedTuple):
    """One item of data.

    input      Tensor (*shape)        what the model reads, without the batch axis
    label      str                    what a person calls it
    thumbnail  uint8 (H, W, 3) | None what a person sees of it
    """

    input: Tensor
    label: str
    thumbnail: Thumbnail | None


class Examples(Protocol):
    """Items a model understands: numbered ones, and files.

    noun     one item in words, for messages: "digit of the test set"
    targets  the right class of every numbered item, or None where nobody knows
    """

    @property
    def noun(self) -> str:
        """One item in words, for messages."""
        ...

    @property
    def targets(self) -> tuple[int, ...] | None:
        """The right class of every numbered item, or None where nobody knows."""
        ...

    def __len__(self) -> int:
        """How many numbered items there are."""
        ...

    def at(self, index: int) -> Example:
        """The numbered item; 0 <= index < len."""
        ...

    def read(self, path: Path) -> Example:
        """The item in a file that exists; raises UsageError naming what is wrong with the file."""
        ...


def stacked(examples: Examples, numbers: Iterable[int] | None = None) -> Tensor:
    """Tensor (n, *shape): the inputs of numbered examples, in the order given; None: of all."""
    return torch.stack([examples.at(k).input for k in (range(len(examples)) if numbers is None else numbers)])


@dataclass(frozen=True, eq=False)
class Subject:
    """A network and its data. The given model is put into eval mode, float32 and no gradients, in place.

    model             nn.Module, or a wrapper of nnsight around one (`polykern.wrappers`)
    name              what it is called in results
    note              one sentence a person reads: trained? on what?
    sample            the model's inputs for one item (batch 1): a tensor, a tuple of positional or a dict
                      of keyword arguments
    examples          numbered items and a reader of files
    classes           names of the outputs when they are class scores, else None
    default_start     module into whose input space a plane is laid by default; "" = the model's own input
    default_examples  three numbered items that make a good first plane
    training          what it was trained on, where that is known: items apart from `examples`
    weights           sha256 of the state dict: names, dtypes, shapes and bytes, sorted by name

    Raises CorruptError naming the first parameter or buffer that holds NaN or infinity, masks of -infinity aside.
    """

    model: nn.Module
    name: str
    note: str
    sample: Sample
    examples: Examples
    classes: tuple[str, ...] | None = None
    default_start: str = ""
    default_examples: tuple[int, int, int] = (0, 1, 2)
    training: Examples | None = None
    weights: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", network(self.model))
        moved(self.model.eval(), None, torch.float32).requires_grad_(False)
        require_finite(self.name, self.model)
        if self.default_start not in dict(self.model.named_modules()):
            raise UsageError(f"{self.name} has no module {self.default_start!r} to start from")
        object.__setattr__(self, "weights", digest(self.model.state_dict()))

    def inputs(self, spec: Sequence[str | int]) -> tuple[Tensor, list[str], list[Thumbnail | None]]:
        """The batch, the labels and the thumbnails of numbered examples and files, in the order given.

        spec     numbers (or words made of digits): examples; other words: paths of files
        returns  Tensor (len(spec), *shape), labels, thumbnails uint8 (H, W, 3) or None

        Raises UsageError: a number out of range, no such file, a file the model cannot read.
        """
        if not spec:
            raise UsageError(f"no inputs given to {self.name}", fix="name an example or a file")
        items = [self._item(word) for word in spec]
        return torch.stack([i.input for i in items]), [i.label for i in items], [i.thumbnail for i in items]

    def outputs(self, batch: Tensor) -> Any:
        """What the model gives for a batch of items; of several inputs all but the first are the sample's.

        batch    (n, *shape); it is left as it is, whatever the model overwrites
        returns  what the model returns, of n items
        """
        return outputs_of(self.model, _with_first(self.sample, batch))

    def _item(self, word: str | int) -> Example:
        if isinstance(word, int) or str(word).isdecimal():
            index, count = int(word), len(self.examples)
            if not 0 <= index < count:
                raise UsageError(f"no {self.examples.noun} {index}", why=f"they are numbered 0 to {count - 1}")
            return self.examples.at(index)
        path = Path(word).expanduser()
        if not path.is_file():
            raise UsageError(
                f"no file {word}",
                fix=f"give a file, or the number of a {self.examples.noun} (0 to {len(self.examples) - 1})",
            )
        return self.examples.read(path)


def _with_first(sample: Sample, batch: Tensor) -> Sample:
    """The inputs of as many items as there are in the batch, which is the first of them."""
    if isinstance(sample, Tensor):
        return batch.clone()
    if isinstance(sample, tuple):
        return (batch.clone(), *(_repeated(x, len(batch)) for x in sample[1:]))
    first, *others = sample
    return {first: batch.clone(), **{name: _repeated(sample[name], len(batch)) for name in others}}


def _repeated(x: Any, n: int) -> Any:
    """An input of one item as that of n; what has no batch axis stays."""
    return x.repeat(n, *[1] * (x.ndim - 1)) if isinstance(x, Tensor) and x.shape[:1] == (1,) else x


def digest(state: Mapping[str, Tensor]) -> str:
    """The sha256 (64 hex digits) of a state dict: the same for the same names, dtypes, shapes and bytes.

    state  name -> tensor of any dtype, shape and device; the order of the names does not matter
    """
    total = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().to("cpu").contiguous()
        total.update(f"{name}\0{value.dtype}\0{list(value.shape)}\0".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def require_finite(name: str, model: nn.Module) -> None:
    """Raise CorruptError naming the first parameter or buffer that holds NaN or infinity.

    name   of the model, in the message
    model  whose buffers may hold -infinity: it is what masks are made of
    """
    trained = {key for key, _ in model.named_parameters(remove_duplicate=False)}
    for key, value in model.state_dict().items():
        if not (value.is_floating_point() or value.is_complex()):
            continue
        bad = ~value.isfinite()
        bad = bad if key in trained or value.is_complex() else bad & (value != -torch.inf)
        if bad.any():
            raise CorruptError(
                f"{name}: the parameter {key} holds NaN or infinity",
                why=f"{int(bad.sum())} of its {value.numel()} values are not finite",
                fix="load the weights again from a sound file",
            )
