"""Subjects and the digits network: accuracy, determinism, the kept weights, and every refusal of an input."""

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from polykern import caches, models
from polykern.errors import CorruptError, UsageError
from polykern.models import _cache, digits


@pytest.fixture(scope="module", autouse=True)
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of these tests' own."""
    folder = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYKERN_CACHE", str(folder))
        yield folder


@pytest.fixture
def subject() -> models.Subject:
    return models.load("digits")


def test_digits_are_read_well(subject: models.Subject) -> None:
    batch, labels, _ = subject.inputs(range(len(subject.examples)))
    right = [str(int(k)) for k in subject.model(batch).argmax(1)]
    share = np.mean([a == b for a, b in zip(right, labels, strict=True)])
    assert batch.shape == (297, 1, 8, 8)
    assert share >= 0.98
    assert f"{share:.1%}" in subject.note


def test_the_default_examples_are_the_first_right_0_1_2(subject: models.Subject) -> None:
    batch, labels, _ = subject.inputs(range(len(subject.examples)))
    given = subject.model(batch).argmax(1).tolist()
    for digit, index in enumerate(subject.default_examples):
        assert given[index] == digit == int(labels[index])
        assert not any(given[k] == digit == int(labels[k]) for k in range(index))
    assert subject.examples.targets == tuple(int(label) for label in labels)


def test_a_subject_is_ready_to_be_looked_at(subject: models.Subject) -> None:
    assert not subject.model.training
    assert not any(p.requires_grad for p in subject.model.parameters())
    assert {p.dtype for p in subject.model.parameters()} == {torch.float32}
    assert sum(p.numel() for p in subject.model.parameters()) == 62_250
    assert isinstance(subject.sample, torch.Tensor)
    assert subject.model(subject.sample).shape == (1, 10)
    assert subject.classes == tuple("0123456789")
    assert "relu4" in dict(subject.model.named_modules())


def test_training_is_deterministic_and_leaves_no_trace() -> None:
    torch.manual_seed(7)
    threads, random = torch.get_num_threads(), torch.get_rng_state()
    once = digits.trained(3, epochs=1)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), random)
    torch.rand(5)
    with torch.inference_mode():
        again = digits.trained(3, epochs=1)
    assert models.digest(once) == models.digest(again)
    assert models.digest(digits.trained(4, epochs=1)) != models.digest(once)


def test_the_kept_weights_are_the_trained_ones(
    subject: models.Subject, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert models.digest(load_file(kept / "digits-1-seed0.safetensors")) == subject.weights
    monkeypatch.setattr(digits, "trained", None)
    assert models.load("digits").weights == subject.weights


def _tiny() -> dict[str, torch.Tensor]:
    return {"w": torch.arange(600.0), "b": torch.zeros(0, 2), "n": torch.tensor(3)}


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "foreign"])
def test_damaged_weights_cost_one_warning_and_are_made_anew(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("POLYKERN_CACHE", str(tmp_path / "deep" / "er"))
    made = []

    def make() -> dict[str, torch.Tensor]:
        made.append(1)
        return _tiny()

    first = _cache.cached("tiny", make)
    path = tmp_path / "deep" / "er" / "tiny.safetensors"
    sound = path.read_bytes()
    assert _cache.cached("tiny", make).keys() == first.keys()
    assert len(made) == 1
    if damage == "foreign":
        save_file(_tiny(), path)
    else:
        path.write_bytes(
            {"flip": sound[:-9] + bytes([sound[-9] ^ 1]) + sound[-8:], "cut": sound[:-1], "empty": b""}[damage]
        )
    with caplog.at_level(logging.WARNING):
        again = _cache.cached("tiny", make)
    assert len(made) == 2, "made anew"
    assert models.digest(again) == models.digest(_tiny())
    [record] = caplog.records
    assert "is damaged" in record.getMessage()
    assert "\n" not in record.getMessage()
    assert models.digest(_cache.cached("tiny", make)) == models.digest(_tiny())
    assert len(made) == 2, "what was written is sound"
    assert [p.name for p in path.parent.iterdir()] == ["tiny.safetensors"]


def test_weights_that_cannot_be_kept_are_still_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("POLYKERN_CACHE", str(tmp_path / "file"))
    assert models.digest(_cache.cached("tiny", _tiny)) == models.digest(_tiny())
    assert "cannot be kept" in caplog.text


def test_where_weights_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYKERN_CACHE", "/own")
    monkeypatch.setenv("XDG_CACHE_HOME", "/shared")
    assert caches.folder() == Path("/own")
    monkeypatch.delenv("POLYKERN_CACHE")
    assert caches.folder() == Path("/shared/polykern")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/me")
    assert caches.folder() == Path("/me/.cache/polykern")


def test_the_digest_sees_names_dtypes_shapes_and_bytes() -> None:
    base = {"a": torch.zeros(2, 3), "b": torch.ones(1)}
    same = OrderedDict(b=torch.ones(1), a=torch.zeros(3, 2).T)
    others: list[dict[str, torch.Tensor]] = [
        {"a": torch.zeros(3, 2), "b": torch.ones(1)},
        {"a": torch.zeros(2, 3, dtype=torch.int32), "b": torch.ones(1)},
        {"c": torch.zeros(2, 3), "b": torch.ones(1)},
        {"a": -torch.zeros(2, 3), "b": torch.ones(1)},
        {"a": torch.zeros(2, 3)},
    ]
    assert models.digest(base) == models.digest(same)
    assert len({models.digest(x) for x in [base, *others]}) == 1 + len(others)


def test_the_digest_is_the_hash_it_says() -> None:
    text = b"a\0torch.int16\0[2]\0" + b"\x01\x00\xff\xff" + b"b\0torch.float32\0[]\0" + b"\x00\x00\x80\x3f"
    state = {"b": torch.tensor(1.0), "a": torch.tensor([1, -1], dtype=torch.int16)}
    assert models.digest(state) == hashlib.sha256(text).hexdigest()


def test_weights_that_are_not_finite_are_refused_by_name(subject: models.Subject) -> None:
    model = digits.network()
    model.load_state_dict(subject.model.state_dict())
    bad = model.get_parameter("conv3.bias")
    with torch.no_grad():
        bad[5], bad[6] = float("nan"), float("-inf")
    with pytest.raises(CorruptError, match=r"conv3\.bias holds NaN(.|\n)*2 of its 64") as caught:
        models.Subject(model, "mine", "", subject.sample, subject.examples)
    assert caught.value.exit_code == 3


def test_a_start_that_does_not_exist_is_refused(subject: models.Subject) -> None:
    with pytest.raises(UsageError, match="no module 'conv9'"):
        models.Subject(subject.model, "mine", "", subject.sample, subject.examples, default_start="conv9")


def test_inputs_mixes_numbers_and_files(subject: models.Subject, tmp_path: Path) -> None:
    ink = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    Image.fromarray(ink).save(tmp_path / "mine.png")
    batch, labels, thumbnails = subject.inputs(["4", str(tmp_path / "mine.png"), 4])
    assert torch.equal(subject.inputs([np.int64(4), tmp_path / "mine.png"])[0], batch[:2])  # type: ignore[list-item]
    assert torch.equal(batch[0], batch[2])
    assert torch.equal(batch[1, 0], torch.from_numpy(ink / np.float32(255)))
    assert labels == [labels[2], "mine", labels[0]]
    assert thumbnails[1] is not None
    assert thumbnails[1].dtype == np.uint8
    assert np.array_equal(thumbnails[1][::8, ::8], np.stack([ink] * 3, 2))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (297, "no digit of the test set 297\nthey are numbered 0 to 296"),
        (-1, "no digit of the test set -1"),
        ("400", "no digit of the test set 400"),
        ("nowhere.png", "no file .*nowhere.png"),
        ("large.png", "wants an image of 8 x 8 pixels(.|\n)*large.png has 28 x 27"),
        ("text.png", "text.png is not an image"),
        ("cut.png", "cut.png is not an image"),
        ("", "no file"),
    ],
)
def test_inputs_that_cannot_be_are_refused(
    subject: models.Subject, tmp_path: Path, word: str | int, message: str
) -> None:
    Image.new("RGB", (28, 27)).save(tmp_path / "large.png")
    (tmp_path / "text.png").write_text("no image")
    Image.effect_noise((64, 64), 90).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:900])
    given = str(tmp_path / word) if isinstance(word, str) and word.endswith(".png") else word
    with pytest.raises(UsageError, match=message):
        subject.inputs([0, given])


def test_no_inputs_are_refused(subject: models.Subject) -> None:
    with pytest.raises(UsageError, match="no inputs"):
        subject.inputs([])


def test_an_unknown_name_lists_the_known_and_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'digits'") as caught:
        models.load("digit")
    for name in models.KNOWN:
        assert name in str(caught.value)


def test_the_weights_have_readable_names(subject: models.Subject) -> None:
    assert isinstance(subject.model, nn.Sequential)
    assert list(subject.model.state_dict()) == [
        f"{layer}.{part}" for layer in ("conv1", "conv2", "conv3", "fc1", "fc2") for part in ("weight", "bias")
    ]
