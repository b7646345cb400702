"""Small fakes of TransformerLens, nnsight and SAELens: the attributes and the arithmetic of the real ones.

`MODULES` are their packages, with the names that the pages of the documentation import.
"""

import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# --- TransformerLens ------------------------------------------------------------------------------


def gelu_new(x: Tensor) -> Tensor:
    return 0.5 * x * (1.0 + torch.tanh((2.0 / torch.pi) ** 0.5 * (x + 0.044715 * torch.pow(x, 3.0))))


ACTIVATIONS: dict[str, Any] = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu, "gelu_new": gelu_new}


class HookPoint(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return x


class MLP(nn.Module):
    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.act_fn = ACTIVATIONS[cfg.act_fn]
        self.W_in = nn.Parameter(torch.randn(cfg.d_model, cfg.d_mlp))
        self.W_out = nn.Parameter(torch.randn(cfg.d_mlp, cfg.d_model))
        self.hook_pre, self.hook_post = HookPoint(), HookPoint()

    def forward(self, x: Tensor) -> Any:
        return self.hook_post(self.act_fn(self.hook_pre(x @ self.W_in))) @ self.W_out


class Block(nn.Module):
    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.mlp, self.hook_resid_post = MLP(cfg), HookPoint()

    def forward(self, x: Tensor) -> Any:
        return self.hook_resid_post(x + self.mlp(x))


class HookedTransformerConfig(types.SimpleNamespace):
    """Of n_layers, d_model, d_mlp, n_ctx, d_vocab, act_fn."""


class HookedRootModule(nn.Module):
    """What runs a model of hook points, and moves it."""

    def run_with_cache(self, *inputs: Tensor) -> tuple[Any, dict[str, Tensor]]:
        seen: dict[str, Tensor] = {}
        points = [(name, m) for name, m in self.named_modules() if isinstance(m, HookPoint)]
        with ExitStack() as stack:
            for name, point in points:
                keep = lambda module, args, out, name=name: seen.__setitem__(name, out)  # noqa: E731
                stack.callback(point.register_forward_hook(keep).remove)
            return self(*inputs), seen

    def run_with_hooks(self, *inputs: Tensor, fwd_hooks: Sequence[tuple[str, Callable[..., Any]]] = ()) -> Any:
        """`forward` itself, past the model's own hooks."""
        with ExitStack() as stack:
            for name, hook in fwd_hooks:
                point = self.get_submodule(name)
                call = lambda module, args, out, hook=hook: hook(out, hook=module)  # noqa: E731
                stack.callback(point.register_forward_hook(call).remove)
            return self.forward(*inputs)

    def to(self, device_or_dtype: Any, print_details: bool = True) -> Any:  # type: ignore[override]
        if print_details:
            print("Moving model to device: ", device_or_dtype)
        return nn.Module.to(self, device_or_dtype)


class HookedTransformer(HookedRootModule):
    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.cfg = cfg
        self.embed = nn.Embedding(cfg.d_vocab, cfg.d_model)
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.n_layers))
        self.register_buffer("IGNORE", torch.tensor(-torch.inf))

    def forward(self, input: Tensor, attention_mask: Tensor | None = None) -> Any:
        x = self.embed(input)
        for block in self.blocks:
            x = block(x)
        return x

    def generate(self, input: Tensor) -> Any:
        """A part of the model, called by itself, and then the model."""
        self.embed(input)
        return self.forward(input, attention_mask=None)


def lens(act_fn: str) -> HookedTransformer:
    """Two blocks of ten neurons."""
    sizes = {"n_layers": 2, "d_model": 6, "d_mlp": 10, "n_ctx": 32, "d_vocab": 20}
    cfg = HookedTransformerConfig(act_fn=act_fn, device="cpu", dtype=torch.float32, **sizes)
    return HookedTransformer(cfg).eval()


# --- nnsight --------------------------------------------------------------------------------------


class Envoy:
    def __init__(self, module: Any) -> None:
        self._module = module

    def __call__(self, *args: Any) -> Any:
        return self._module(*args)


class NNsight(Envoy):
    @contextmanager
    def trace(self, *inputs: Tensor) -> Iterator[None]:
        """The body is given the values of the run, which is made at its end."""
        self.output = types.SimpleNamespace(save=lambda: None)
        yield
        self._module(*inputs)


class LanguageModel(NNsight):
    pass


# --- SAELens --------------------------------------------------------------------------------------


class TopKSAEConfig(types.SimpleNamespace):
    """Of d_in, d_sae, k."""

    normalize_activations, apply_b_dec_to_input, rescale_acts_by_decoder_norm = "none", True, False

    def architecture(self) -> str:
        return "topk"


class TopKSAE(nn.Module):
    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.cfg = cfg
        generator = torch.Generator().manual_seed(0)
        self.W_enc = nn.Parameter(torch.randn(cfg.d_in, cfg.d_sae, generator=generator))
        self.W_dec = nn.Parameter(self.W_enc.detach().T.clone())
        self.b_enc, self.b_dec = nn.Parameter(torch.zeros(cfg.d_sae)), nn.Parameter(torch.zeros(cfg.d_in))

    def encode(self, x: Tensor) -> Any:
        z = ((x - self.b_dec) @ self.W_enc + self.b_enc).relu()
        best = z.topk(self.cfg.k)
        return torch.zeros_like(z).scatter(1, best.indices, best.values)


def _package(name: str, *values: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    vars(made).update({value.__name__: value for value in values})
    return made


MODULES = {
    "transformer_lens": _package("transformer_lens", HookedTransformer, HookedTransformerConfig),
    "nnsight": _package("nnsight", NNsight),
    "sae_lens": _package("sae_lens", TopKSAE, TopKSAEConfig),
}
