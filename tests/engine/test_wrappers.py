"""Networks in the objects of TransformerLens and nnsight, recognised by name.

Small fakes of them are in `tests.lenses`.
"""

import inspect
import re
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import polykern as pk
from polykern.cli.app import run
from polykern.errors import CorruptError, UsageError
from polykern.models import Subject
from polykern.models.generated import Noise
from polykern.models.language import Language, is_causal
from polykern.tail import Meeting
from polykern.wrappers import moved, network
from polykern_kernels import pack
from tests.lenses import ACTIVATIONS, Envoy, LanguageModel, NNsight, lens


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


# --- TransformerLens ------------------------------------------------------------------------------


@pytest.mark.parametrize("act_fn", ["relu", "gelu", "silu", "gelu_new"])
def test_hook_points_of_transformer_lens(act_fn: str) -> None:
    model, tokens, seen = lens(act_fn), torch.arange(10).view(2, 5), []
    point = model.get_submodule("blocks.1.mlp.hook_pre")
    point.register_forward_hook(lambda module, args, out: seen.append(out.flatten(0, 1)))
    with pk.trace(model, select="blocks.1.mlp.hook_pre", rows="tokens", values=True) as t, torch.no_grad():
        out = model(tokens)
    assert [f.module for f in t.layout.fields] == ["blocks.1.mlp"]
    assert torch.equal(t.values["blocks.1.mlp"], seen[0])
    assert torch.equal(t.codes.words, pack.signs(seen[0])[0])
    assert torch.equal(out, model(tokens)), "and the model is as it was"
    assert all(block.mlp.act_fn is ACTIVATIONS[act_fn] for block in model.blocks)  # type: ignore[union-attr]


def test_an_activation_that_is_written_out_is_followed() -> None:
    """A tail replaces it as one call, so that other engines can evaluate it."""
    model = lens("gelu_new")
    points = torch.randn(3, 5, 6)
    tail = pk.Tail(model, torch.zeros(1, 5, dtype=torch.long), "blocks.0")
    met: list[str] = []

    def reach(m: Meeting) -> Any:
        met.append(m.activation.kind)
        assert m.activation.function is not None
        return m.activation.function(m.z)

    with torch.no_grad():
        out = tail.run(points, reach)
        direct = model.blocks[1](model.blocks[0](points))
    assert met == ["gelu", "gelu"]
    assert torch.allclose(out, direct, atol=1e-5)


def test_tokens_go_to_the_argument_that_a_model_has() -> None:
    class Words:
        longest = None

    model = lens("relu")
    reader = Language(model, "lens", "fake", Words())  # type: ignore[arg-type]
    assert is_causal(model)
    assert reader.weights
    assert set(reader.inputs(torch.zeros(1, 4, dtype=torch.long), torch.tensor([3]))) == {"input", "attention_mask"}


# --- nnsight --------------------------------------------------------------------------------------


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


@pytest.mark.parametrize("kind", [Envoy, NNsight, LanguageModel])
def test_a_wrapper_of_nnsight_is_its_network(kind: Any) -> None:
    model = net()
    wrapped, x = kind(model), torch.randn(5, 4)
    with pk.trace(model) as plain, pk.trace(wrapped) as t:
        wrapped(x)
    assert torch.equal(t.codes.words, plain.codes.words)
    assert pk.Tail(wrapped, x[:1]).model is model
    assert Subject(wrapped, "wrapped", "fake", x[:1], Noise((4,), 0)).model is model


def test_an_older_wrapper_and_one_without_weights() -> None:
    model = net()
    older = NNsight(None)
    older._model = model  # type: ignore[attr-defined]
    assert network(older) is model
    empty = NNsight(net().to("meta"))
    with pytest.raises(UsageError, match=r"not loaded(.|\n)*dispatch=True"):
        network(empty)


@pytest.mark.parametrize("thing", [3, "digits", Envoy(3), types.SimpleNamespace(_module=net())])
def test_what_is_no_network(thing: Any) -> None:
    with pytest.raises(UsageError, match=r"an nn\.Module, or one that nnsight wraps"), pk.trace(thing):
        pass


def test_a_mask_may_be_infinite_and_a_weight_may_not() -> None:
    model, tokens = lens("relu"), torch.zeros(1, 4, dtype=torch.long)
    subject = Subject(model, "lens", "fake", tokens, Noise((4,), 0))
    for name, value in (("IGNORE", torch.inf), ("IGNORE", torch.nan), ("blocks.0.mlp.W_in", -torch.inf)):
        broken = lens("relu")
        broken.state_dict()[name].fill_(value)
        with pytest.raises(CorruptError, match=f"{name} holds NaN or infinity"):
            replace(subject, model=broken)


# --- the ways in which they are called ------------------------------------------------------------------


def test_forward_without_its_hooks_is_a_pass() -> None:
    model, tokens = lens("relu"), torch.arange(10).view(2, 5)
    signature, seen = inspect.signature(model.forward), []
    with pk.trace(model, rows="tokens") as t, torch.no_grad():
        model(tokens)
        first = t.take()
        for run in (model.run_with_hooks, model.generate, model.forward):
            run(tokens)
            seen.append(t.take())
        assert inspect.signature(model.forward) == signature, "libraries read which arguments it has"
        with pytest.raises(IndexError):
            model.forward(tokens + 100)
        assert len(t.codes) == 0, "a pass that fails leaves nothing"
    assert all(codes == first for codes in seen)
    assert "forward" not in vars(model)


def test_a_forward_of_its_own_is_given_back() -> None:
    model = net()
    own = model.forward
    model.forward = lambda x: own(x)
    kept = model.forward
    with pk.trace(model) as t:
        model(torch.randn(5, 4))
    assert len(t.codes) == 5
    assert model.forward is kept


def test_a_model_is_moved_without_a_word_and_its_cfg_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    model = lens("relu")
    double = pk.Tail(model, torch.zeros(1, 5, dtype=torch.long), "blocks.0").to(torch.float64)
    assert (double.dtype, double.model.cfg.dtype) == (torch.float64, torch.float64)
    assert (model.cfg.dtype, next(model.parameters()).dtype) == (torch.float32, torch.float32)
    assert moved(model, "meta") is model
    assert model.cfg.device == "meta"
    assert capsys.readouterr().out == ""


def test_a_wrapped_model_is_captured_on_batches(tmp_path: Path) -> None:
    x = torch.randn(5, 4)
    store = pk.capture(NNsight(net()), [x, x], tmp_path / "x.codes", name="wrapped").store()
    assert len(store) == 10
    with pytest.raises(UsageError, match=r"an nn\.Module, or one that nnsight wraps"):
        pk.capture(3, [x], tmp_path / "y.codes")


def test_a_model_of_tokens_and_its_sample_are_enough(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Examples are draws of the sample's numbers; between tokens there is no plane."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(TOKENS)
    words = ("heatmap", "--model", "mine.py:net", "--resolution", "8", "--engine", "float32", "--out", "map", "-q")
    assert run(words) == 2
    assert re.search(r"between int64 numbers there is no plane\n.*start at a module", capsys.readouterr().err)
    assert run([*words, "--start", "first", "--no-figures", "--no-viewer"]) == 0
    assert run(["capture", "--model", "mine.py:net", "--out", "x.codes", "--limit-documents", "20", "-q"]) == 0
    np.save("own.npy", np.array([1, 2, 3, 4, 5]))
    subject = pk.load("mine.py:net", seed=1)
    assert subject.examples.at(7).input.tolist() == subject.examples.at(7).input.tolist()
    assert {n for k in range(50) for n in subject.examples.at(k).input.tolist()} == {3, 5, 7, 9, 11}
    assert subject.inputs(["own.npy"])[0].tolist() == [[1, 2, 3, 4, 5]]


TOKENS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.first, self.last = nn.Embedding(20, 6), nn.Linear(6, 16), nn.Linear(16, 6)
    def forward(self, tokens):
        return self.last(torch.relu(self.first(self.embed(tokens))))

def net():
    torch.manual_seed(0)
    return Net().eval(), torch.tensor([[3, 5, 7, 9, 11]])
"""


def foreign(x: Any) -> Any:
    """What a library does that knows types of tensors by itself, einops for one."""
    if type(x) is not Tensor:
        raise RuntimeError(f"Tensor type unknown to a library {type(x)}")
    return x


@pytest.mark.parametrize(
    ("ask", "engine", "said"),
    [
        (lambda x: -x if x.is_leaf else x, "tiles", "is_leaf of a tensor"),
        (lambda x: -x if x.is_leaf else x, "scanline", "is_leaf of a tensor"),
        (foreign, "anchored", "Tensor type unknown to a library"),
    ],
)
def test_what_points_do_not_have_is_named(tmp_path: Path, ask: Any, engine: str, said: str) -> None:
    """It is the network's wish, not a bug here; float32 follows any."""

    class Asks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Any:
            return F.relu(self.layer(ask(x)))

    subject = Subject(Asks(), "asks", "of a test", torch.zeros(1, 4), Noise((4,), 0))
    with pytest.raises(UsageError, match=said):
        pk.heatmap(subject, [0, 1, 2], out=tmp_path / "x", resolution=8, engine=engine)
    found = pk.heatmap(subject, [0, 1, 2], out=tmp_path / "y", resolution=8, engine="float32")
    assert found.provenance["arithmetic"]["engine"] == "float32"
