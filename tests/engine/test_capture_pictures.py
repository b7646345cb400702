"""Codes of pictures and of their places: equal to those of a plain pass, with the pictures beside them."""

import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from polykern.capturing import capture
from polykern.capturing.pictures import places
from polykern.errors import CorruptError, MismatchError, UsageError
from polykern.models import Subject
from polykern.models.digits import Digits, network
from polykern.store import verify
from tests.engine.hooked import entering
from tests.engine.languages import files


@pytest.fixture(scope="module")
def subject() -> Subject:
    """The digits network, untrained, with the test set."""
    torch.manual_seed(0)
    test = Digits.test()
    return Subject(network(), "untrained", "random weights", test.images[:1], test, classes=tuple("0123456789"))


@pytest.mark.parametrize(
    ("at", "cells"), [("all", range(16)), ("centre", [10]), ((0, 3), [3]), ((3, 0), [12])]
)  # fmt: skip
def test_places_of_a_feature_map(subject: Subject, at: Any, cells: Any, tmp_path: Path) -> None:
    made = capture(subject, None, tmp_path / "s", select="relu3", at=at, limit=9, batch=4)
    store = made.store()
    z = entering(subject.model, "relu3", Digits.test().images[:9])  # (9, 64, 4, 4)
    rows = [(doc, cell) for doc in range(9) for cell in cells]
    wanted = torch.stack([z[doc, :, cell // 4, cell % 4] > 0 for doc, cell in rows])
    assert torch.equal(store.rows().codes.bits(), wanted)
    assert store.column("doc").tolist() == [doc for doc, _ in rows]
    assert store.column("pos").tolist() == [cell for _, cell in rows]
    assert store.column("token").tolist() == [int(Digits.test().labels[doc]) for doc, _ in rows]
    about = made.manifest.about
    assert (about["grid"], about["picture"], about["classes"][3]) == ([4, 4], [64, 64], "3")


def test_several_layers_of_one_grid(subject: Subject, tmp_path: Path) -> None:
    kept = ["relu2:fp32", "output:conv1:fp16", "output:relu2:fp32"]
    store = capture(subject, None, tmp_path / "s", select="relu[12]", at="all", limit=3, activations=kept).store()
    images = Digits.test().images[:3]
    z = torch.cat([entering(subject.model, f"relu{k}", images) for k in (1, 2)], 1)
    assert torch.equal(store.rows().codes.bits(), z.permute(0, 2, 3, 1).flatten(0, 2) > 0)
    second = z[:, 32:].permute(0, 2, 3, 1).flatten(0, 2)
    torch.testing.assert_close(store.activations("relu2"), second)
    torch.testing.assert_close(store.activations("output:relu2"), second.relu())
    torch.testing.assert_close(
        store.activations("output:conv1"), z[:, :32].permute(0, 2, 3, 1).flatten(0, 2).half()
    )


def test_whole_pictures(subject: Subject, tmp_path: Path) -> None:
    made = capture(subject, None, tmp_path / "s", limit=5)
    images = Digits.test().images[:5]
    z = torch.cat([entering(subject.model, f"relu{k}", images).flatten(1) for k in (1, 2, 3, 4)], 1)
    assert torch.equal(made.store().rows().codes.bits(), z > 0)
    assert made.manifest.about["grid"] is None
    assert set(made.store().column("pos").tolist()) == {0}


def test_what_people_see_are_the_pictures(subject: Subject, tmp_path: Path) -> None:
    store = capture(subject, None, tmp_path / "s", select="relu3", at="centre", limit=7, shard_bytes=900).store()
    for doc in range(7):
        wanted = subject.examples.at(doc).thumbnail
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(store.image(doc)))), wanted)


def folder_of(tmp_path: Path) -> Path:
    """Digits as files, in folders by their class, one of them broken."""
    test, folder = Digits.test(), tmp_path / "pictures"
    for k in range(8):
        place = folder / f"class-{int(test.labels[k])}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((test.images[k, 0] * 255).round().to(torch.uint8).numpy()).save(place / f"{k}.png")
    (folder / "class-3" / "broken.png").write_bytes(b"no picture")
    (folder / "notes.md").write_text("no picture either")
    return folder


def test_a_folder_of_pictures(subject: Subject, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    made = capture(subject, folder, tmp_path / "s", select="relu3", at="centre")
    store, names = made.store(), sorted(p.relative_to(folder) for p in folder.rglob("[0-9].png"))
    kinds = sorted({name.parts[0] for name in names})
    assert made.manifest.about["classes"] == kinds
    assert store.column("token").tolist() == [kinds.index(name.parts[0]) for name in names]
    images = torch.stack([subject.examples.read(folder / name).input for name in names])
    assert torch.equal(store.rows().codes.bits(), entering(subject.model, "relu3", images)[:, :, 2, 2] > 0)
    about = made.manifest.about
    assert about["passed_over"] == 1
    assert "broken.png" in about["passed_over_first"][0]
    with pytest.raises(CorruptError, match=r"broken\.png"):
        capture(subject, folder, tmp_path / "t", strict=True)


def test_an_interrupted_run_is_finished_with_the_same_bytes(subject: Subject, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    words: dict[str, Any] = {"select": "relu3", "at": "all", "batch": 3, "shard_bytes": 500}
    whole = capture(subject, folder, tmp_path / "whole", **words)
    assert whole.shards == 8

    class Killed(BaseException):
        pass

    heard = kills = 0

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal heard, kills
        heard += 1
        if heard % 3 == 0:
            kills += 1
            raise Killed

    for _ in range(20):
        with suppress(Killed):
            capture(subject, folder, tmp_path / "torn", progress=progress, **words)
            break
    assert kills > 1
    assert files(tmp_path / "torn") == files(tmp_path / "whole")
    assert verify(tmp_path / "torn") == []
    with pytest.raises(MismatchError, match=r"config\.positions"):
        capture(subject, folder, tmp_path / "torn", **{**words, "at": "centre"})


def test_what_cannot_be(subject: Subject, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no place 4,0"):
        capture(subject, None, tmp_path / "s", select="relu3", at=(4, 0))
    with pytest.raises(UsageError, match="one height and width"):
        capture(subject, None, tmp_path / "s", at="all")
    with pytest.raises(UsageError, match="no folder of pictures"):
        capture(subject, tmp_path / "none", tmp_path / "s")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no pictures to capture"):
        capture(subject, tmp_path / "empty", tmp_path / "s")
    for word in ("middle", "1", "-1,2", "1,2,3"):
        with pytest.raises(UsageError, match="no positions"):
            places(word)
    assert (places("centre"), places("7,12")) == ("centre", (7, 12))


def test_a_nan_is_named_with_its_layer_and_pictures(tmp_path: Path) -> None:
    test, model = Digits.test(), network()
    passes = 0

    def sick(module: nn.Module, args: Any, out: Tensor) -> Tensor:  # in the second batch behind the probe
        nonlocal passes
        passes += 1
        return out * torch.nan if passes == 3 else out

    model.get_submodule("conv2").register_forward_hook(sick)
    found = Subject(model, "broken", "", test.images[:1], test)
    with pytest.raises(CorruptError, match=r"pre-activations of relu2 hold NaN.*, among pictures 4 \.\.\.: "):
        capture(found, None, tmp_path / "s", select="relu2", batch=4)
