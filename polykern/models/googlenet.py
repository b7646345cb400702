"""GoogLeNet (InceptionV1), the vision network of the polytope lens, as torchvision writes it.

With trained weights where torch's cache holds them. Otherwise with random weights whose BatchNorm statistics
were measured on images: left at their initial values they make the network positively homogeneous, so that codes
do not change along rays and every image gets the same class. It is then a network of the true shape, not a
trained one. Szegedy et al. 2015; Black et al. 2022.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polykern.errors import CorruptError, MissingExtra
from polykern.models import _torchvision, imagenet
from polykern.models._cache import DOWNLOAD, State, cached, log
from polykern.models.efficientnet_lite0 import recognised
from polykern.models.generated import Generated
from polykern.models.photos import CROP, TORCHVISION, Photos, foolbox_photos, photograph
from polykern.models.subject import Example, Examples, Subject
from polykern.models.untrained import measuring
from polykern.seeds import reproducible

START = "inception5a"
CHECKPOINT = "googlenet-1378be20.pth"  # torchvision's file; the digits begin its sha256
BATCHES, BATCH = 3, 16  # images that the statistics are measured on
COARSE, GRAIN = 28, 0.3  # side of the noise that is enlarged, share of the fine noise added
NAME = "googlenet-random-1"  # changes with the recipe, so that kept weights never belong to another one


def subject(seed: int = 0) -> Subject:
    """GoogLeNet, trained if its weights are at hand, else random with measured BatchNorm statistics.

    seed  of random weights and of generated images

    Trained weights are taken from torch's cache (`torch.hub.get_dir()`); they are fetched only with
    POLYKERN_DOWNLOAD=1 in the environment. Examples are foolbox's labelled photographs where that package is
    installed, else smooth noise. Raises MissingExtra when torchvision is not installed, CorruptError for a damaged
    checkpoint.
    """
    path = checkpoint()
    if path is None:
        return calibrated_subject(seed)
    model = network(transform_input=True)
    model.load_state_dict(_trained(path))
    classes = imagenet.classes()
    examples = _examples(seed)
    return Subject(
        model,
        "googlenet",
        "GoogLeNet trained on ImageNet (torchvision's weights)",
        examples.at(0).input[None],
        examples,
        classes=classes,
        default_start=START,
        default_examples=recognised(model, examples) if isinstance(examples, Photos) else (0, 1, 2),
    )


def calibrated_subject(seed: int = 0) -> Subject:
    """GoogLeNet with random weights and BatchNorm statistics measured on smooth noise: not a trained network.

    seed  of the weights and of generated images; each seed is made once (10 s) and kept

    The same machine and torch give the same bits. Raises MissingExtra when torchvision is not installed.
    """
    model = network(transform_input=False)
    model.load_state_dict(cached(f"{NAME}-seed{seed}", lambda: calibrated(seed)))
    note = "random weights with calibrated BatchNorm: NOT a trained network, its classes mean nothing"
    return _untrained("googlenet-random", model, note, seed)


def initial_subject(seed: int = 0) -> Subject:
    """GoogLeNet as it is initialised, BatchNorm included: positively homogeneous behind its first layers.

    seed  of the weights and of generated images

    The degenerate control: every image gets the same class. Raises MissingExtra when torchvision is not installed.
    """
    with reproducible(seed):
        model = network(transform_input=False)
    note = "random weights, BatchNorm as initialised: NOT a trained network, and a degenerate one"
    return _untrained("googlenet-initial", model, note, seed)


def network(*, transform_input: bool) -> nn.Module:
    """torchvision's GoogLeNet without its training heads, in eval mode, with random weights.

    transform_input  whether it brings torchvision's input scale to that of the trained weights by itself
    """
    _torchvision.library()
    from torchvision.models import googlenet

    model: nn.Module = googlenet(
        weights=None, init_weights=False, aux_logits=False, transform_input=transform_input
    )
    return model.requires_grad_(False).eval()


def checkpoint() -> Path | None:
    """The file of trained weights in torch's cache, or None when it is not there and must not be fetched."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / CHECKPOINT
    if not path.is_file() and os.environ.get(DOWNLOAD) == "1":
        _torchvision.library()
        from torchvision.models import GoogLeNet_Weights

        path.parent.mkdir(parents=True, exist_ok=True)
        url = GoogLeNet_Weights.IMAGENET1K_V1.url
        hexes = CHECKPOINT.rpartition("-")[2].removesuffix(".pth")
        torch.hub.download_url_to_file(url, str(path), hash_prefix=hexes, progress=False)
    return path if path.is_file() else None


def calibrated(seed: int) -> State:
    """Random weights with BatchNorm means and variances averaged over 3 batches of 16 smooth noise images."""
    log.info("measuring GoogLeNet's BatchNorm statistics, once (ten seconds)")
    with reproducible(seed), torch.no_grad():
        model = network(transform_input=False)
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        with measuring(model, norms):
            for batch in range(BATCHES):
                images = [smooth_noise(seed, -1 - batch * BATCH - k) for k in range(BATCH)]
                model(torch.stack(images))
    return {name: value.clone() for name, value in model.state_dict().items()}


def smooth_noise(seed: int, index: int) -> Tensor:
    """float32 (3, 224, 224): normal noise of 28 x 28 pixels enlarged (bicubic), with 0.3 of fine noise.

    seed, index  the same pair gives the same image; negative indices are those the statistics are measured on
    """
    generator = torch.Generator().manual_seed((seed << 32) + (index % (1 << 32)))
    coarse = torch.randn(1, 3, COARSE, COARSE, generator=generator)
    fine = torch.randn(3, CROP, CROP, generator=generator)
    return F.interpolate(coarse, CROP, mode="bicubic")[0] + GRAIN * fine


@dataclass(frozen=True)
class SmoothNoise(Generated):
    """Generated images as examples; files are photographs."""

    seed: int
    noun: str = "generated image"

    def at(self, index: int) -> Example:
        """A generated image."""
        x = smooth_noise(self.seed, index)
        return Example(x, f"noise {index}", TORCHVISION.pixels(x))

    def read(self, path: Path) -> Example:
        """The photograph in a file of any size."""
        return photograph(path, TORCHVISION)


def _untrained(name: str, model: nn.Module, note: str, seed: int) -> Subject:
    examples = _examples(seed)
    sample = examples.at(0).input[None]
    return Subject(model, name, note, sample, examples, default_start=START)


def _examples(seed: int) -> Examples:
    try:
        return foolbox_photos(imagenet.classes(), TORCHVISION)
    except MissingExtra:
        return SmoothNoise(seed)


def _trained(path: Path) -> dict[str, Any]:
    wanted = CHECKPOINT.rpartition("-")[2].removesuffix(".pth")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(wanted):
        raise CorruptError(
            f"{path} is damaged",
            why=f"its sha256 begins with {found[: len(wanted)]}, not {wanted}",
            fix=f"delete it; {DOWNLOAD}=1 in the environment fetches it again",
        )
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return {name: value for name, value in state.items() if not name.startswith("aux")}
