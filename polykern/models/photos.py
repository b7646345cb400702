"""Photographs as ImageNet networks read them, and the labelled ones that foolbox carries.

Short side to 256 (bicubic), the central 224 x 224, then (x - mean) / scale on 0..255 values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from polykern.errors import UsageError
from polykern.models._packages import files_of
from polykern.models.subject import Example, Thumbnail

if TYPE_CHECKING:
    from PIL.Image import Image

RESIZED, CROP = 256, 224  # pixels
LIMIT = 64_000_000  # pixels; more is no photograph but a decompression bomb

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Scaling:
    """How 0..255 values become a network's input: (x - mean) / scale, a channel each."""

    mean: Triple
    scale: Triple

    def input(self, pixels: Thumbnail) -> Tensor:
        """float32 (3, H, W) of uint8 (H, W, 3)."""
        x = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float()
        return (x - self._column(self.mean)) / self._column(self.scale)

    def pixels(self, x: Tensor) -> Thumbnail:
        """The uint8 (H, W, 3) image nearest to an input float32 (3, H, W)."""
        values = x * self._column(self.scale) + self._column(self.mean)
        image: Thumbnail = values.clamp(0, 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        return image

    @staticmethod
    def _column(values: Triple) -> Tensor:
        return torch.tensor(values)[:, None, None]


LITE = Scaling((127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
TORCHVISION = Scaling((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


@dataclass(frozen=True)
class Photos:
    """Photographs in files with the class of each, as examples.

    paths    the photographs
    targets  the right class of each
    classes  names of the classes
    scaling  of the network that reads them
    """

    paths: tuple[Path, ...]
    targets: tuple[int, ...]
    classes: Sequence[str]
    scaling: Scaling

    noun: str = "photograph of foolbox"

    def __len__(self) -> int:
        return len(self.paths)

    def at(self, index: int) -> Example:
        """A photograph under the name of its class."""
        return self.read(self.paths[index])._replace(label=self.classes[self.targets[index]])

    def read(self, path: Path) -> Example:
        """The photograph in a file of any size, under the file's name."""
        return photograph(path, self.scaling)

    @cached_property
    def batch(self) -> Tensor:
        """All of them, float32 (n, 3, 224, 224)."""
        return torch.stack([self.read(path).input for path in self.paths])


def photograph(path: Path, scaling: Scaling) -> Example:
    """A photograph of any size as an input float32 (3, 224, 224), under the file's name.

    path     a file that exists
    scaling  of the network that reads it

    Raises UsageError when the file holds no image.
    """
    pixels = cropped(open_image(path))
    return Example(scaling.input(pixels), path.stem, pixels)


def cropped(image: "Image") -> Thumbnail:
    """uint8 (224, 224, 3): the short side made 256 pixels, then the centre; UsageError for what is a line."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image).convert("RGB")
    factor = RESIZED / min(image.size)
    wide, high = (max(RESIZED, round(side * factor)) for side in image.size)
    if wide * high > LIMIT:
        raise UsageError(f"an image of {image.width} x {image.height} pixels is too narrow to be cut to a square")
    image = image.resize((wide, high), Image.Resampling.BICUBIC)
    left, top = (wide - CROP) // 2, (high - CROP) // 2
    return np.array(image.crop((left, top, left + CROP, top + CROP)), dtype=np.uint8)


def open_image(path: Path) -> "Image":
    """The decoded image of a file; raises UsageError when it holds none, is cut off or is absurdly large."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.width * image.height > LIMIT:
                raise ValueError(f"it has {image.width} x {image.height} pixels")
            image.load()
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UsageError(f"{path} is not an image that can be read", why=reason) from error
    return image


def foolbox_photos(classes: Sequence[str], scaling: Scaling) -> Photos:
    """The 20 labelled ImageNet photographs that the package foolbox carries.

    classes  the 1000 class names
    scaling  of the network that reads them

    Raises MissingExtra when foolbox is not installed. foolbox itself is not imported.
    """
    paths = sorted(files_of("foolbox", "data/imagenet_*.jpg", extra="vision"))
    targets = tuple(int(path.stem.rpartition("_")[2]) for path in paths)
    return Photos(tuple(paths), targets, classes, scaling)
