"""What a plain hook of torch sees, to compare with."""

import torch
from torch import Tensor, nn


def entering(model: nn.Module, name: str, x: Tensor) -> Tensor:
    """A copy of what the module of this name gets first when the model runs on x."""
    seen: list[Tensor] = []
    hook = model.get_submodule(name).register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
    with torch.no_grad():
        model(x.clone())
    hook.remove()
    return seen[0]
