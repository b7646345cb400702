"""Where the neurons of a layer are: the linear module whose output is the pre-activation, and its weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polykern.errors import UsageError
from polykern.selectors import Select
from polykern.tracing import trace

ACTIVATED: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "relu6": F.relu6,
}


@dataclass(frozen=True, eq=False)
class Neurons:
    """The neurons in front of one nonlinearity.

    field   name of the nonlinearity
    kind    what it does: "relu", "gelu", ...
    module  the linear module in front of it; its input is what the neurons receive
    weight  float32 (n, d)   input weights, a row a neuron
    bias    float32 (n)
    """

    field: str
    kind: str
    module: str
    weight: Tensor
    bias: Tensor

    def __len__(self) -> int:
        return len(self.weight)

    def activated(self, z: Tensor) -> Tensor:
        """The activations of pre-activations; GELU in its exact form, whatever form the model computes."""
        return ACTIVATED[self.kind](z)


def neurons_of(model: nn.Module, call: Callable[[], Any], select: Select) -> list[Neurons]:
    """The neurons of every selected nonlinearity.

    model   in eval mode
    call    runs the model once, on a few tokens
    select  as in `polykern.selectors`

    A linear module is known by its output, which is the pre-activation bit for bit; Hugging Face's `Conv1D`, whose
    weight is transposed, is one. Gated MLPs have the neurons of their gate, which decides the code. Errors:
    UsageError naming a nonlinearity that has no linear module in front of it, or is of another kind.
    """
    linear = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear) or _transposed(m)}
    seen: dict[str, Tensor] = {}
    hooks = [m.register_forward_hook(_noting(seen, name)) for name, m in linear.items()]
    try:
        with torch.no_grad(), trace(model, select=select, rows="tokens", values=True) as t:
            call()
    finally:
        for hook in hooks:
            hook.remove()
    return [_found(f.name, f.kind, t.values[f.name], seen, linear) for f in t.layout.fields]


def _found(name: str, kind: str, z: Tensor, seen: dict[str, Tensor], linear: dict[str, nn.Module]) -> Neurons:
    modules = [n for n, out in seen.items() if out.shape == z.shape and torch.equal(out, z)]
    if not modules:
        raise UsageError(
            f"{name} has no linear module in front of it",
            why="its pre-activation is no module's output as it is",
            fix="select the nonlinearities of MLPs",
        )
    if kind not in ACTIVATED:
        raise UsageError(f"the neurons of {name} are {kind}", fix=f"select {', '.join(ACTIVATED)}")
    module: Any = linear[modules[-1]]
    weight = module.weight.detach().T if _transposed(module) else module.weight.detach()
    bias = torch.zeros(len(weight)) if module.bias is None else module.bias.detach().float().cpu()
    return Neurons(name, kind, modules[-1], weight.float().cpu().contiguous(), bias)


def _transposed(module: nn.Module) -> bool:
    """Whether it is the Conv1D of transformers: weight (in, out)."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


def _noting(seen: dict[str, Tensor], name: str) -> Any:
    def hook(module: nn.Module, args: Any, output: Tensor) -> None:
        seen[name] = output.detach().flatten(0, -2).clone()

    return hook
