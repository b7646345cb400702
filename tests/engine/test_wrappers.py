"""Networks in the objects of TransformerLens and nnsight, recognised by name.

The classes here have the attributes and the arithmetic of the real ones, and their names.
"""

import types
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import polykern as pk
from polykern.errors import CorruptError, UsageError
from polykern.models import Subject
from polykern.models.language import Language, is_causal
from polykern.models.yours import Noise
from polykern.tail import Meeting
from polykern.wrappers import network
from polykern_kernels import pack


@pytest.fixture(autouse=True)
def seeded() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


# --- TransformerLens ------------------------------------------------------------------------------


def gelu_new(x: Tensor) -> Tensor:
    return 0.5 * x * (1.0 + torch.tanh((2.0 / torch.pi) ** 0.5 * (x + 0.044715 * torch.pow(x, 3.0))))


class HookPoint(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return x


class MLP(nn.Module):
    def __init__(self, act_fn: Any) -> None:
        super().__init__()
        self.act_fn = act_fn
        self.W_in, self.W_out = nn.Parameter(torch.randn(6, 10)), nn.Parameter(torch.randn(10, 6))
        self.hook_pre, self.hook_post = HookPoint(), HookPoint()

    def forward(self, x: Tensor) -> Any:
        return self.hook_post(self.act_fn(self.hook_pre(x @ self.W_in))) @ self.W_out


class Block(nn.Module):
    def __init__(self, act_fn: Any) -> None:
        super().__init__()
        self.mlp = MLP(act_fn)

    def forward(self, x: Tensor) -> Any:
        return x + self.mlp(x)


class HookedTransformer(nn.Module):
    def __init__(self, act_fn: Any, blocks: int = 2) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 6)
        self.blocks = nn.ModuleList(Block(act_fn) for _ in range(blocks))
        self.cfg = types.SimpleNamespace(n_ctx=32)
        self.register_buffer("IGNORE", torch.tensor(-torch.inf))

    def forward(self, input: Tensor, attention_mask: Tensor | None = None) -> Any:
        x = self.embed(input)
        for block in self.blocks:
            x = block(x)
        return x


@pytest.mark.parametrize("act_fn", [F.relu, F.gelu, F.silu, gelu_new])
def test_hook_points_of_transformer_lens(act_fn: Any) -> None:
    model, tokens, seen = HookedTransformer(act_fn).eval(), torch.arange(10).view(2, 5), []
    point = model.get_submodule("blocks.1.mlp.hook_pre")
    point.register_forward_hook(lambda module, args, out: seen.append(out.flatten(0, 1)))
    with pk.trace(model, select="blocks.1.mlp.hook_pre", rows="tokens", values=True) as t, torch.no_grad():
        out = model(tokens)
    assert [f.module for f in t.layout.fields] == ["blocks.1.mlp"]
    assert torch.equal(t.values["blocks.1.mlp"], seen[0])
    assert torch.equal(t.codes.words, pack.signs(seen[0])[0])
    assert torch.equal(out, model(tokens)), "and the model is as it was"
    assert all(block.mlp.act_fn is act_fn for block in model.blocks)  # type: ignore[union-attr]


def test_an_activation_that_is_written_out_is_followed() -> None:
    """A tail replaces it as one call, so that other engines can evaluate it."""
    model = HookedTransformer(gelu_new).eval()
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

    model = HookedTransformer(F.relu)
    reader = Language(model, "lens", "fake", Words())  # type: ignore[arg-type]
    assert is_causal(model)
    assert reader.weights
    assert set(reader.inputs(torch.zeros(1, 4, dtype=torch.long), torch.tensor([3]))) == {"input", "attention_mask"}


# --- nnsight --------------------------------------------------------------------------------------


class Envoy:
    def __init__(self, module: Any) -> None:
        self._module = module

    def __call__(self, *args: Any) -> Any:
        return self._module(*args)


class NNsight(Envoy):
    pass


class LanguageModel(NNsight):
    pass


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
    model, tokens = HookedTransformer(F.relu), torch.zeros(1, 4, dtype=torch.long)
    subject = Subject(model, "lens", "fake", tokens, Noise((4,), 0))
    for name, value in (("IGNORE", torch.inf), ("IGNORE", torch.nan), ("blocks.0.mlp.W_in", -torch.inf)):
        broken = HookedTransformer(F.relu)
        broken.state_dict()[name].fill_(value)
        with pytest.raises(CorruptError, match=f"{name} holds NaN or infinity"):
            replace(subject, model=broken)
