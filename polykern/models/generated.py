"""Examples that are made up by number, the same on every machine, for networks that come without data."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from polykern.errors import UsageError
from polykern.models.photos import open_image
from polykern.models.subject import Example, Thumbnail

COUNT = 1000  # numbered examples


class Generated:
    """What is common to examples that depend on a seed and their number only."""

    seed: int
    targets: None = None
    noun: str = "generated input"

    def __len__(self) -> int:
        return COUNT

    def _generator(self, index: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed * COUNT + index)


@dataclass(frozen=True)
class Noise(Generated):
    """Standard normal noise of one shape as numbered examples; files are .npy arrays or images of that shape."""

    shape: tuple[int, ...]
    seed: int

    def at(self, index: int) -> Example:
        """Noise that depends on the seed and the index only."""
        return Example(torch.randn(self.shape, generator=self._generator(index)), f"noise {index}", None)

    def read(self, path: Path) -> Example:
        """The array of a .npy file, or an image with its values brought to 0..1."""
        if path.suffix == ".npy":
            return Example(array(path, self.shape), path.stem, None)
        x, thumbnail = _image(path, self.shape)
        _require_shape(path, x, self.shape)
        return Example(x, path.stem, thumbnail)


@dataclass(frozen=True, eq=False)
class Drawn(Generated):
    """The whole numbers of one item drawn anew for every place, as numbered examples; files are .npy arrays."""

    sample: Tensor
    seed: int

    def at(self, index: int) -> Example:
        """Numbers that depend on the seed and the index only; an embedding has all of them."""
        shape, numbers = self.sample.shape, self.sample.flatten()
        picked = torch.randint(len(numbers), shape, generator=self._generator(index))
        return Example(numbers[picked], f"draw {index}", None)

    def read(self, path: Path) -> Example:
        """The array of a .npy file, of the sample's shape."""
        return Example(array(path, tuple(self.sample.shape)).to(self.sample.dtype), path.stem, None)


@dataclass(frozen=True)
class RandomTokens(Generated):
    """Random token numbers as examples, for networks without a tokenizer; files are .npy arrays of as many.

    vocabulary  how many tokens there are
    count       of tokens in an example
    """

    vocabulary: int
    seed: int
    count: int
    noun: str = "sequence of random tokens"

    def at(self, index: int) -> Example:
        """Tokens that depend on the seed and the index only."""
        ids = torch.randint(self.vocabulary, (self.count,), generator=self._generator(index))
        return Example(ids, f"random tokens {index}", None)

    def read(self, path: Path) -> Example:
        """The token numbers in a .npy file."""
        x = array(path, (self.count,))
        ids = x.long()
        if not ((ids == x) & (ids >= 0) & (ids < self.vocabulary)).all():
            raise UsageError(f"{path} holds numbers that are no tokens", why=f"0 to {self.vocabulary - 1} are")
        return Example(ids, path.stem, None)

    def tokens(self, index: int) -> list[str]:
        """The token numbers, written out."""
        return [str(token) for token in self.at(index).input.tolist()]


def array(path: Path, shape: tuple[int, ...]) -> Tensor:
    """The float32 array of the given shape in a .npy file; raises UsageError for anything else, or NaN in it."""
    try:
        x = torch.from_numpy(np.load(path, allow_pickle=False).astype(np.float32))
    except Exception as error:
        raise UsageError(f"{path} is not a .npy file of numbers", why=str(error)) from error
    _require_shape(path, x, shape)
    if not x.isfinite().all():
        raise UsageError(f"{path} holds NaN or infinity")
    return x


def _require_shape(path: Path, x: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(x.shape) != shape:
        raise UsageError(f"the model wants {list(shape)}, {path} holds {list(x.shape)}")


def _image(path: Path, shape: tuple[int, ...]) -> tuple[Tensor, Thumbnail]:
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise UsageError(f"the model wants {list(shape)}, which is no image", fix="give a .npy file")
    image = open_image(path)
    x = np.array(image.convert("L" if shape[0] == 1 else "RGB"), dtype=np.float32) / 255
    x = x[None] if x.ndim == 2 else x.transpose(2, 0, 1)
    return torch.from_numpy(x.copy()), np.array(image.convert("RGB"), dtype=np.uint8)
