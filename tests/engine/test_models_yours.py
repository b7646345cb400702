"""Networks of the user's own: functions of files and of packages, and every way they can be wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from polykern import models
from polykern.errors import CorruptError, UsageError
from polykern.heat import activations
from polykern.models import Subject
from polykern.models.generated import Noise

MINE = """
from dataclasses import dataclass
import torch
from torch import nn
from polykern.models import Subject
from polykern.models.generated import Noise

@dataclass
class Size:
    wide: int = 6

def mlp():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(Size().wide, 8), nn.ReLU(), nn.Linear(8, 3)).double().train()

def conv():
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())

def pair():
    return conv(), torch.zeros(1, 3, 9, 7)

def subject():
    return Subject(mlp(), "my own", "mine", torch.zeros(1, 6), Noise((6,), 3), ("a", "b", "c"), "1")

def broken():
    return nn.Linear(2, 2), torch.zeros(5, 2)

def diverged():
    model = mlp()
    model[0].weight.data[0, 0] = float("inf")
    return model

def number():
    return 3

def crash():
    raise KeyError("weights.bin")

CONSTANT = 4
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "my nets.py"
    path.write_text(MINE)
    return str(path)


def test_a_module_from_a_file(file: str) -> None:
    subject = models.load(f"{file}:mlp", seed=5)
    assert subject.name == f"{file}:mlp"
    assert not subject.model.training
    assert next(subject.model.parameters()).dtype == torch.float32
    batch, labels, thumbnails = subject.inputs([0, 1, 0])
    assert subject.model(batch).shape == (3, 3)
    assert torch.equal(batch[0], batch[2])
    assert not torch.equal(batch[0], batch[1])
    assert labels == ["noise 0", "noise 1", "noise 0"]
    assert thumbnails == [None] * 3
    assert not torch.equal(models.load(f"{file}:mlp", seed=6).inputs([0])[0], batch[:1])


def test_the_weights_name_the_network(file: str) -> None:
    assert models.load(f"{file}:mlp").weights == models.load(f"{file}:mlp", seed=1).weights
    assert models.load(f"{file}:mlp").weights != models.load(f"{file}:pair").weights


def test_a_pair_brings_its_sample(file: str, tmp_path: Path) -> None:
    subject = models.load(f"{file}:pair")
    pixels = np.arange(189, dtype=np.uint8).reshape(9, 7, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    array = np.random.default_rng(0).normal(size=(3, 9, 7))
    np.save(tmp_path / "b.npy", array)
    batch, labels, thumbnails = subject.inputs([str(tmp_path / "a.png"), str(tmp_path / "b.npy")])
    assert torch.equal(batch[0], torch.from_numpy(pixels.transpose(2, 0, 1) / np.float32(255)))
    assert torch.equal(batch[1], torch.from_numpy(array).float())
    assert labels == ["a", "b"]
    assert np.array_equal(thumbnails[0], pixels)  # type: ignore[arg-type]
    assert thumbnails[1] is None


def test_a_subject_comes_through_unchanged(file: str) -> None:
    subject = models.load(f"{file}:subject")
    assert (subject.name, subject.default_start, subject.classes) == ("my own", "1", ("a", "b", "c"))


def test_a_function_of_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ournets").mkdir()
    (tmp_path / "ournets" / "small.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    subject = models.load("ournets.small:mlp")
    assert subject.name == "ournets.small:mlp"
    assert subject.model(subject.sample).shape == (1, 3)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("conv", "shape of the inputs(.|\n)*return a pair"),
        ("broken", "not the inputs of one item"),
        ("number", "gave int(.|\n)*return an nn.Module"),
        ("crash", "crash failed\nKeyError: 'weights.bin'"),
        ("CONSTANT", r"has no function 'CONSTANT'\Z"),
        ("mpl", "has no function 'mpl'\ndid you mean 'mlp'"),
        ("", "has no function ''"),
    ],
)
def test_what_a_function_must_not_do(file: str, function: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        models.load(f"{file}:{function}")


def test_diverged_weights_are_named(file: str) -> None:
    with pytest.raises(CorruptError, match=r"0\.weight holds NaN or infinity"):
        models.load(f"{file}:diverged")


def test_files_and_packages_that_do_not_load(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("x = 1 /")
    for word, message in [
        (f"{tmp_path}/none.py:f", "no file .*none.py"),
        (f"{tmp_path}/bad.py:f", "bad.py failed\nSyntaxError"),
        ("polykern.no_such:f", "no module 'polykern.no_such'"),
        (":f", "no model is called ':f'"),
        ("json:no_such", "json has no function"),
    ]:
        with pytest.raises(UsageError, match=message):
            models.load(word)


@pytest.mark.parametrize("bad", ["shape", "text", "nan", "object"])
def test_arrays_that_do_not_fit_are_refused(file: str, tmp_path: Path, bad: str) -> None:
    path = tmp_path / "x.npy"
    if bad == "text":
        path.write_text("no array")
    elif bad == "object":
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    else:
        np.save(path, np.zeros(5) if bad == "shape" else np.full(6, np.nan))
    message = {"shape": r"wants \[6\], .* holds \[5\]", "nan": "holds NaN"}.get(bad, "not a .npy file of numbers")
    with pytest.raises(UsageError, match=message):
        models.load(f"{file}:mlp").inputs([str(path)])


def test_a_vector_is_no_image(file: str, tmp_path: Path) -> None:
    Image.new("RGB", (6, 1)).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="which is no image"):
        models.load(f"{file}:mlp").inputs([str(tmp_path / "a.png")])


class Two(nn.Module):
    """Overwrites the first of two inputs; the second has a batch axis, a third has none."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.relu, self.last = nn.Linear(6, 8), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)

    def forward(self, x: Tensor, y: Tensor, scale: float) -> Tensor:
        z: Tensor = self.last(self.relu(self.left(x.mul_(2)) + scale * self.right(y)))
        return z


@pytest.mark.parametrize("start", ["", "left", "relu", "last"])
@pytest.mark.parametrize("named", [False, True])
def test_further_inputs_are_those_of_the_sample(start: str, named: bool) -> None:
    torch.manual_seed(0)
    x, y, model = torch.randn(5, 6), torch.randn(1, 4), Two()
    one = x[:1].clone()
    sample: Any = {"x": one, "y": y, "scale": 0.5} if named else (one, y, 0.5)
    subject = Subject(model, "two", "of a test", sample, Noise((6,), 0))
    summed = 2 * x @ model.left.weight.T + model.left.bias + 0.5 * (y @ model.right.weight.T + model.right.bias)
    wanted = {"": x, "left": 2 * x, "relu": summed, "last": summed.relu()}[start]
    kept = x.clone()
    assert torch.allclose(activations(subject, start, x), wanted, atol=1e-5)
    assert torch.allclose(subject.outputs(x), model.last(summed.relu()), atol=1e-5)
    assert torch.equal(x, kept)
