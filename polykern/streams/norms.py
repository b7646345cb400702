"""The norms of a transformer in float64: as they are, without their eps, or with what they measured once."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from polykern.errors import UsageError

# w x / sqrt(mean x^2 + eps), as nn.RMSNorm: transformers' own compute it in float32
RMS = (
    "RMSNorm",
    "LlamaRMSNorm",
    "MistralRMSNorm",
    "MixtralRMSNorm",
    "Qwen2RMSNorm",
    "Qwen3RMSNorm",
    "Olmo2RMSNorm",
)


@contextmanager
def normed(modules: Mapping[str, nn.Module], *, ideal: bool = False, kept: Collection[str] = ()) -> Iterator[None]:
    """Norms in the arithmetic of their inputs while the context lasts.

    modules  name -> module of a model
    ideal    with an eps of 0
    kept     names of those that keep the deviations of the first pass

    Errors: UsageError for a module called a norm that is neither LayerNorm nor RMSNorm.
    """
    held: dict[str, Tensor] = {}

    def hook(name: str, eps: float) -> Any:
        def normalised(norm: Any, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            x, axes = args[0], tuple(range(-len(getattr(norm, "normalized_shape", (0,))), 0))
            centred = x - x.mean(axes, keepdim=True) if isinstance(norm, nn.LayerNorm) else x
            inverse = (centred.square().mean(axes, keepdim=True) + eps).rsqrt()
            if name in kept:
                inverse = held.setdefault(name, inverse)
            scaled = centred * inverse
            scaled = scaled if norm.weight is None else scaled * norm.weight
            bias = getattr(norm, "bias", None)
            return scaled if bias is None else scaled + bias

        return normalised

    found = {k: m for k, m in modules.items() if is_norm(m)}
    handles = [m.register_forward_hook(hook(k, 0.0 if ideal else eps_of(m))) for k, m in found.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def behind(modules: Mapping[str, nn.Module], name: str, call: Callable[[], Any]) -> list[str]:
    """Names of the norms that run behind a module, in order; `call` runs the model once."""
    order: list[str] = []

    def noted(met: str) -> Any:
        return lambda module, args, output: order.append(met)

    watched = {k: m for k, m in modules.items() if k == name or is_norm(m)}
    handles = [m.register_forward_hook(noted(k)) for k, m in watched.items()]
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    return order[order.index(name) + 1 :]


def is_norm(module: nn.Module) -> bool:
    """Whether a module divides by a deviation of its input; UsageError for a norm of another kind."""
    kind = type(module).__name__
    if isinstance(module, nn.LayerNorm) or kind in RMS:
        return True
    if kind.endswith("Norm"):
        raise UsageError(f"norms of the kind {kind} are not known", why=f"LayerNorm and {', '.join(RMS)} are")
    return False


def eps_of(norm: nn.Module) -> float:
    """What is added to the variance."""
    eps: Any = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
    return torch.finfo(torch.float32).eps if eps is None else float(eps)
