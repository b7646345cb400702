"""Networks that other packages register by name: loaded, completed, captured, and when names collide."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import polykern as pk
from polykern.errors import UsageError
from polykern.names import registered

Install = Callable[..., None]
PLUGIN = """
import torch
from torch import nn

def ournet():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """plugin(name, value, distribution) installs a distribution that registers one name."""
    (tmp_path / "registers.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)

    def install(name: str, value: str = "registers:ournet", distribution: str = "registers") -> None:
        about = tmp_path / f"{distribution}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[polykern.models]\n{name} = {value}\n")
        importlib.invalidate_caches()

    yield install
    sys.modules.pop("registers", None)


def test_a_plugin_is_known_by_its_name(plugin: Install) -> None:
    with pytest.raises(UsageError, match="no model is called 'ournet'"):
        pk.load("ournet")
    plugin("ournet")
    assert registered()["ournet"] == "registers:ournet"
    subject = pk.load("ournet")
    assert subject.name == "ournet"
    assert subject.model(subject.sample).shape == (1, 3)
    with pytest.raises(UsageError, match="did you mean 'ournet'"):
        pk.load("ournett")


def test_a_plugin_is_completed_and_captured(plugin: Install, tmp_path: Path) -> None:
    from polykern.capturing.prepare import reads_text
    from polykern.cli.completion import models

    plugin("ournet")
    assert ("ournet", "registers:ournet") in models("our")
    assert not reads_text("ournet")
    made = pk.capture("ournet", None, out=tmp_path / "codes", limit=20)
    assert (made.rows, made.bits) == (20, 8)


def test_own_names_go_before_those_of_plugins(plugin: Install) -> None:
    plugin("digits")
    assert "digits" not in registered()


def test_two_plugins_of_one_name(plugin: Install) -> None:
    plugin("ournet")
    plugin("ournet", "other:net", "other")
    with pytest.raises(UsageError, match="two packages register a model 'ournet'"):
        registered()
