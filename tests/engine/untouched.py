"""What of a model a run must leave as it was, beside its weights."""

from typing import Any

from torch import nn


def state(model: nn.Module) -> list[Any]:
    """Every module with its type, the number of its hooks and the names of its attributes."""
    return [
        (name, type(m), len(m._forward_hooks), len(m._forward_pre_hooks), sorted(vars(m)))
        for name, m in model.named_modules()
    ]
