"""Networks that come in the objects of other libraries, recognised by name; none of them is imported."""

from typing import Any

import torch
from torch import nn

from polykern.errors import UsageError

NNSIGHT = {"NNsight", "Envoy"}  # LanguageModel and the rest are subclasses
LENSES = {"HookedRootModule", "TransformerBridge"}  # of TransformerLens
PLACES = ("_module", "_model")  # where nnsight keeps the network, now and before 0.5


def network(model: Any) -> nn.Module:
    """The nn.Module that a model is, or that a wrapper of nnsight holds.

    model  nn.Module, with those of TransformerLens; or `NNsight`, `LanguageModel` and their like

    Raises UsageError for anything else, and for a wrapper whose weights are not loaded yet.
    """
    if isinstance(model, nn.Module):
        return model
    inner = None
    if NNSIGHT & {kind.__name__ for kind in type(model).__mro__}:
        inner = next((found for place in PLACES if isinstance(found := vars(model).get(place), nn.Module)), None)
    if inner is None:
        raise UsageError(f"a model is an nn.Module, or one that nnsight wraps; got {type(model).__name__}")
    if any(parameter.is_meta for parameter in inner.parameters()):
        raise UsageError(f"the weights of the {type(model).__name__} are not loaded", fix="give it dispatch=True")
    return inner


def moved(model: nn.Module, device: torch.device | str | None, dtype: torch.dtype | None = None) -> nn.Module:
    """A network, in place, on another device and in another dtype.

    model   any; of TransformerLens its `cfg` is told as well, which its layers read. (Their own `to` takes one of
            the two and speaks on stdout.)
    device  where to; None leaves it
    dtype   of its parameters and buffers; None leaves it
    """
    nn.Module.to(model, device=device, dtype=dtype)
    if LENSES & {kind.__name__ for kind in type(model).__mro__}:
        cfg = getattr(model, "cfg", None)
        for name, value in (("device", device and str(device)), ("dtype", dtype)):
            if value is not None and hasattr(cfg, name):
                setattr(cfg, name, value)
    return model
