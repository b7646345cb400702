"""Networks that come in the objects of other libraries, recognised by name; none of them is imported."""

from typing import Any

from torch import nn

from polykern.errors import UsageError

NNSIGHT = {"NNsight", "Envoy"}  # LanguageModel and the rest are subclasses
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
