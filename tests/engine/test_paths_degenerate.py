"""Paths and attacks of networks in which nothing happens: told and drawn, or refused in one line."""

from pathlib import Path

import pytest
import torch
from torch import nn

import polykern as pk
from polykern.errors import UsageError
from polykern.models import Subject
from polykern.models.subject import Example


def test_a_short_path_that_crosses_nothing_is_written(tmp_path: Path) -> None:
    """Few positions are two blocks of the bootstrap; pairs that cross nothing tell nothing; axes begin at 0."""
    first = nn.Linear(3, 8)
    nn.init.zeros_(first.weight)
    nn.init.ones_(first.bias)
    model = nn.Sequential(first, nn.ReLU(), nn.Linear(8, 2))
    subject = Subject(model, "flat", "as made", torch.zeros(1, 3), Labelled())  # type: ignore[arg-type]
    for positions, pairs in ((3, 0), (10, 0), (11, 2)):
        found = pk.path(subject, positions=positions, ball=4, pairs=pairs, checked=2, layers=["0"], classes=True)
        found.save(tmp_path / str(positions))
        assert found.numbers()["crossings"] == 0
        assert "path.png" in {p.name for p in (tmp_path / str(positions)).iterdir()}
    layer = found.numbers()["layers"]["0"]["same"]
    assert (layer["pairs that cross nothing"], layer["middle"], layer["middle minus ends"]) == (2, None, None)


def test_an_attack_without_a_gradient_is_refused() -> None:
    last = nn.Linear(8, 2)
    nn.init.zeros_(last.weight)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), last)
    subject = Subject(model, "flat", "as made", torch.zeros(1, 3), Labelled())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="the attack does not move 4 of 4 images"):
        pk.adversarial(subject, images=4)


class Labelled:
    """Six points of two classes."""

    noun, targets = "point", (0, 0, 0, 1, 1, 1)
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.x)

    def at(self, number: int) -> Example:
        return Example(self.x[number], str(number), None)
