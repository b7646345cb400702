"""Where the neurons of a layer are: the linear module whose output is the pre-activation, and its weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polykern.capturing.watch import INPUT, OUTPUT
from polykern.errors import UsageError
from polykern.neurons.norms import Norm, norm_of, normalises
from polykern.selectors import Select
from polykern.tracing import trace

Site = Literal["ln2_out", "resid_mid"]
Fold = Literal["none", "gain", "tl"]
Gated = Literal["gate", "up"]
SITES, FOLDS, GATED = ("ln2_out", "resid_mid"), ("none", "gain", "tl"), ("gate", "up")

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
    module  the linear module in front of it, whose output is the pre-activation
    source  the module whose input is what the neurons receive
    weight  float32 (n, d)   input weights, a row a neuron
    bias    float32 (n)
    norm    what is done to the input of `source`; None: nothing
    """

    field: str
    kind: str
    module: str
    source: str
    weight: Tensor
    bias: Tensor
    norm: Norm | None = None

    def __len__(self) -> int:
        return len(self.weight)

    @property
    def names(self) -> tuple[str, str]:
        """What a pass has to keep: the pre-activations, and what the neurons receive."""
        return OUTPUT + self.module, INPUT + self.source

    def values(self, taken: Mapping[str, Tensor]) -> Tensor:
        """float (t, n): the pre-activations in what a pass kept."""
        return taken[OUTPUT + self.module]

    def inputs(self, taken: Mapping[str, Tensor]) -> Tensor:
        """float (t, d): what the neurons receive, `norm` not yet applied."""
        return taken[INPUT + self.source]

    def received(self, inputs: Tensor) -> Tensor:
        """float (m, d): what the neurons receive of inputs that were kept."""
        return inputs if self.norm is None else self.norm.normalised(inputs)

    def activated(self, z: Tensor) -> Tensor:
        """The activations of pre-activations; GELU in its exact form, whatever form the model computes."""
        return ACTIVATED[self.kind](z)


class _Call(NamedTuple):
    """What a module took and gave, the tokens one behind the other."""

    x: Tensor
    out: Tensor


def neurons_of(
    model: nn.Module,
    call: Callable[[], Any],
    select: Select,
    *,
    site: Site = "ln2_out",
    fold: Fold = "none",
    gated: Gated = "gate",
) -> list[Neurons]:
    """The neurons of every selected nonlinearity.

    model   in eval mode
    call    runs the model once, on a few tokens
    select  as in `polykern.selectors`
    site    where they receive: "ln2_out", behind the norm in front of them, or "resid_mid", before it
    fold    where the norm's gain g is: "none": in what they receive; "gain": in the weights, w g; "tl": there as
            well, and of a LayerNorm the mean of each neuron's weights is subtracted, as TransformerLens does
    gated   of a gated MLP: "gate", whose sign is the code, or "up", whose output the gate is multiplied with

    With site "ln2_out" an embedding sums, with the bias, to the pre-activation (of "up", to the up projection's
    output), whatever `fold`; so it does with "resid_mid" and "tl", times the deviation of the norm's input.

    A linear module is known by its output, which is the pre-activation bit for bit; Hugging Face's `Conv1D`, whose
    weight is transposed, is one; a norm by its output, which is the linear module's input. Errors: UsageError
    naming a nonlinearity that has no linear module in front of it, or is of another kind, or has no norm or no up
    projection where one is needed; or for another word.
    """
    for what, word, words in (("site", site, SITES), ("fold", fold, FOLDS), ("gated", gated, GATED)):
        if word not in words:
            raise UsageError(f"there is no {what} {word!r}", fix=f"choose one of {', '.join(words)}")
    linear = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear) or _transposed(m)}
    norms = {name: m for name, m in model.named_modules() if normalises(m)}
    seen: dict[str, _Call] = {}
    hooks = [m.register_forward_hook(_noting(seen, name)) for name, m in (linear | norms).items()]
    try:
        with torch.no_grad(), trace(model, select=select, rows="tokens", values=True) as t:
            call()
    finally:
        for hook in hooks:
            hook.remove()
    found = []
    for f in t.layout.fields:
        plain = _found(f.name, f.kind, t.values[f.name], {n: c for n, c in seen.items() if n in linear}, linear)
        plain = plain if gated == "gate" else _up(plain, seen, linear)
        needed = site != "ln2_out" or fold != "none"
        found.append(_folded(plain, _norm(plain, seen, norms), site, fold) if needed else plain)
    return found


def _found(name: str, kind: str, z: Tensor, seen: Mapping[str, _Call], linear: Mapping[str, nn.Module]) -> Neurons:
    modules = [n for n, c in seen.items() if c.out.shape == z.shape and torch.equal(c.out, z)]
    if not modules:
        raise UsageError(
            f"{name} has no linear module in front of it",
            why="its pre-activation is no module's output as it is",
            fix="select the nonlinearities of MLPs",
        )
    if kind not in ACTIVATED:
        raise UsageError(f"the neurons of {name} are {kind}", fix=f"select {', '.join(ACTIVATED)}")
    return Neurons(name, kind, modules[-1], modules[-1], *_weights(linear[modules[-1]]))


def _up(neurons: Neurons, seen: Mapping[str, _Call], linear: Mapping[str, nn.Module]) -> Neurons:
    """The neurons with the weights of the other module that reads what the gate reads."""
    gate = seen[neurons.module]
    alike = [n for n in linear if n in seen and seen[n].out.shape == gate.out.shape and n != neurons.module]
    others = [n for n in alike if torch.equal(seen[n].x, gate.x)]
    if len(others) != 1:
        raise UsageError(f"{neurons.field} gates no other linear module", fix='take gated="gate"')
    weight, bias = _weights(linear[others[0]])
    return Neurons(neurons.field, neurons.kind, neurons.module, neurons.source, weight, bias)


def _norm(neurons: Neurons, seen: Mapping[str, _Call], norms: Mapping[str, nn.Module]) -> Norm:
    """The norm whose output is what the neurons receive."""
    x = seen[neurons.module].x
    for name, module in norms.items():
        if name in seen and seen[name].out.shape == x.shape and torch.equal(seen[name].out, x):
            return norm_of(name, module, *seen[name])
    raise UsageError(
        f"{neurons.field} has no norm in front of its linear module",
        why="what the neurons receive is no norm's output as it is",
        fix='take site="ln2_out" and fold="none"',
    )


def _folded(neurons: Neurons, norm: Norm, site: Site, fold: Fold) -> Neurons:
    weight, bias = neurons.weight, neurons.bias
    if fold != "none":
        weight, bias = weight * norm.gain, bias + weight @ norm.shift
    if fold == "tl" and norm.centred:
        weight = weight - weight.mean(1, keepdim=True)
    raw = site == "resid_mid"
    source = norm.module if raw or fold != "none" else neurons.source
    kept = None if raw or fold == "none" else norm
    return Neurons(neurons.field, neurons.kind, neurons.module, source, weight, bias, kept)


def _weights(module: Any) -> tuple[Tensor, Tensor]:
    """float32 (n, d) and (n), on the CPU."""
    weight = module.weight.detach().T if _transposed(module) else module.weight.detach()
    bias = torch.zeros(len(weight)) if module.bias is None else module.bias.detach().float().cpu()
    return weight.float().cpu().contiguous(), bias


def _transposed(module: nn.Module) -> bool:
    """Whether it is the Conv1D of transformers: weight (in, out)."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


def _noting(seen: dict[str, _Call], name: str) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if args and isinstance(args[0], Tensor) and isinstance(output, Tensor) and args[0].is_floating_point():
            seen[name] = _Call(args[0].detach().flatten(0, -2).clone(), output.detach().flatten(0, -2).clone())

    return hook
