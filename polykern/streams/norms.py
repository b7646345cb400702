"""The norms of a transformer in float64: as they are, without their eps, or with what they measured once."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from polykern.errors import UsageError

KINDS = ("live", "ideal", "frozen")
# w x / sqrt(mean x^2 + eps), as nn.RMSNorm: transformers' own compute it in float32
RMS = ("RMSNorm", "LlamaRMSNorm", "MistralRMSNorm", "MixtralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm", "Olmo2RMSNorm")


@contextmanager
def normed(modules: Mapping[str, nn.Module], norms: str) -> Iterator[None]:
    """Norms in the arithmetic of their inputs while the context lasts.

    modules  name -> module of a model
    norms    "live": as they are; "ideal": with an eps of 0; "frozen": with the deviations of the first pass

    Errors: UsageError for another word, or a module called a norm that is neither LayerNorm nor RMSNorm.
    """
    if norms not in KINDS:
        raise UsageError(f"no norms are {norms!r}", fix=f"choose one of {', '.join(KINDS)}")
    held: dict[str, Tensor] = {}

    def hook(name: str, eps: float) -> Any:
        def normalised(norm: Any, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            x, axes = args[0], tuple(range(-len(getattr(norm, "normalized_shape", (0,))), 0))
            centred = x - x.mean(axes, keepdim=True) if isinstance(norm, nn.LayerNorm) else x
            inverse = (centred.square().mean(axes, keepdim=True) + eps).rsqrt()
            if norms == "frozen":
                inverse = held.setdefault(name, inverse)
            scaled = centred * inverse
            scaled = scaled if norm.weight is None else scaled * norm.weight
            bias = getattr(norm, "bias", None)
            return scaled if bias is None else scaled + bias

        return normalised

    found = {k: m for k, m in modules.items() if is_norm(m)}
    handles = [m.register_forward_hook(hook(k, 0.0 if norms == "ideal" else eps_of(m))) for k, m in found.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


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
