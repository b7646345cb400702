"""Residual streams of transformers: scaled in front of a block, and interpolated from one text to another."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polykern.arithmetic import ieee
from polykern.errors import UsageError
from polykern.selectors import Select
from polykern.tail import Meeting, Tail
from polykern.tracing import trace

SCALES = tuple(np.geomspace(0.1, 10, 21).tolist())
STEPS = 50


@dataclass(frozen=True, eq=False)
class Rescaling:
    """Bits that change when the residual stream is scaled.

    scales  float64 (n)
    fields  names of the nonlinearities, in order
    share   float64 (fields, n)   of the bits of each, over all tokens
    """

    scales: NDArray[np.float64]
    fields: tuple[str, ...]
    share: NDArray[np.float64]


def rescaled(
    model: nn.Module,
    sample: Any,
    block: str,
    attention: str,
    *,
    scales: Sequence[float] = SCALES,
    frozen: bool = False,
    select: Select = "*",
) -> Rescaling:
    """Bits that change in every MLP when the residual stream between attention and MLP of a block is scaled.

    model      a pre-norm transformer in eval mode
    sample     its inputs: a tensor, a tuple of positional or a dict of keyword arguments
    block      dotted name of the block
    attention  name of its attention inside the block, whose output is added to the stream
    scales     factors
    frozen     LayerNorms keep the deviations of the unscaled run, so that they no longer take the factor away
    select     which nonlinearities are looked at (`polykern.selectors`)

    A LayerNorm in front takes every positive factor away, up to its eps: with it live nothing changes in the block
    itself. Behind it the stream is s x + f(LN(x)), another direction. Evaluated in float64. Errors: UsageError for
    a factor that is not positive, or a module that there is not.
    """
    if not all(0 < s < float("inf") for s in scales):
        raise UsageError("the residual stream is scaled by positive factors", why="LayerNorm takes no other away")
    clone = copy.deepcopy(model).double()
    known = dict(clone.named_modules())
    for name in (block, f"{block}.{attention}"):
        if name not in known:
            raise UsageError(f"the model has no module {name!r}", fix="polykern layers MODEL prints what there is")
    inputs = _double(sample)
    held: dict[str, Tensor] = {}
    codes = []
    for scale in (1.0, *scales):
        with ExitStack() as stack:
            stack.enter_context(_scaled(known[block], known[f"{block}.{attention}"], scale))
            if frozen:
                stack.enter_context(_frozen(known, held))
            traced = stack.enter_context(trace(clone, select=select))
            stack.enter_context(torch.no_grad())
            stack.enter_context(ieee())
            _call(clone, inputs)
        codes.append(traced.codes)
    flips = np.stack([codes[0].aligned_by_field(c).sum(1).cpu().numpy() for c in codes[1:]], 1)
    fields = codes[0].layout.fields
    bits = np.array([f.bits for f in fields]) * len(codes[0])
    return Rescaling(np.asarray(scales, np.float64), tuple(f.name for f in fields), flips / bits[:, None])


@contextmanager
def _scaled(block: nn.Module, attention: nn.Module, scale: float) -> Iterator[None]:
    """Both parts of the stream in front of the MLP times a factor: what the block reads, what attention adds."""

    def read(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (args[0] * scale, *args[1:]), kwargs
        first = next(iter(kwargs))
        return args, {**kwargs, first: kwargs[first] * scale}

    def added(module: nn.Module, args: Any, output: Any) -> Any:
        return output * scale if isinstance(output, Tensor) else (output[0] * scale, *output[1:])

    handles = [block.register_forward_pre_hook(read, with_kwargs=True), attention.register_forward_hook(added)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _frozen(modules: Mapping[str, nn.Module], held: dict[str, Tensor]) -> Iterator[None]:
    """LayerNorms with the deviations in `held`; those that are not there yet are put there."""

    def hook(name: str) -> Any:
        def normalised(norm: nn.LayerNorm, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            x, axes = args[0], tuple(range(-len(norm.normalized_shape), 0))
            centred = x - x.mean(axes, keepdim=True)
            if name not in held:
                held[name] = (x.var(axes, unbiased=False, keepdim=True) + norm.eps).rsqrt()
            scaled = centred * held[name]
            scaled = scaled if norm.weight is None else scaled * norm.weight
            return scaled if norm.bias is None else scaled + norm.bias

        return normalised

    handles = [m.register_forward_hook(hook(k)) for k, m in modules.items() if isinstance(m, nn.LayerNorm)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True, eq=False)
class Plateaus:
    """Bits of each MLP that change along an interpolation of the residual stream, per length of the step there.

    t        float64 (steps)          in the middle of each step
    fields   names of the nonlinearities, in order
    flips    int64 (fields, steps)    bits of the last token that change
    lengths  float64 (fields, steps)  L2, of the last token's step in front of each MLP
    """

    t: NDArray[np.float64]
    fields: tuple[str, ...]
    flips: NDArray[np.int64]
    lengths: NDArray[np.float64]

    @property
    def density(self) -> NDArray[np.float64]:
        """float64 (fields, steps): bits per unit of length; nan where nothing moves."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.flips / self.lengths)


def plateaus(tail: Tail, a: Tensor, b: Tensor, middle: str, *, steps: int = STEPS) -> Plateaus:
    """Bits of every MLP that change while the last token's residual vector goes from one text's to another's.

    tail    a transformer from a block on; it is evaluated in float64
    a, b    float (tokens, width): what enters the block for two texts of one length. The tokens in front are a's
    middle  glob over modules that read the residual stream in front of each MLP, one an MLP: "*.ln_2"
    steps   of equal length in the space of the start

    d_H of consecutive codes over the length of the step in front of the MLP. Errors: UsageError where the modules
    are not as many as the nonlinearities, or a and b end alike. Janiak et al. 2024, "Characterizing stable regions
    in the residual stream of LLMs" (arXiv:2409.17113).
    """
    if steps < 1:
        raise UsageError(f"an interpolation has one step at least, got {steps}")
    if a.shape != tail.input_shape or b.shape != tail.input_shape:
        shapes = f"{list(a.shape)} and {list(b.shape)}"
        raise UsageError(f"the streams have shapes {shapes}, not {list(tail.input_shape)}")
    if torch.equal(a[-1], b[-1]):
        raise UsageError("the last tokens of both texts have the same residual vector")
    tail = tail.to(torch.float64, tail.device)
    t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    points = a.double().expand(steps + 1, *a.shape).clone()
    points[:, -1] = a[-1].double() + t[:, None] * (b[-1] - a[-1]).double()
    seen: list[Tensor] = []
    flips: list[NDArray[np.int64]] = []

    def reach(met: Meeting) -> Any:
        if met.field is not None:
            bits = torch.stack([met.z[:, -1] > at for at in met.field.thresholds])
            flips.append((bits[:, 1:] != bits[:, :-1]).sum((0, 2)).cpu().numpy())
        return met.proceed()

    def note(module: nn.Module, args: tuple[Any, ...]) -> None:
        seen.append(args[0][:, -1].detach().clone())

    modules = [m for name, m in tail.model.named_modules() if fnmatchcase(name, middle)]
    handles = [m.register_forward_pre_hook(note) for m in modules]
    try:
        with ieee():
            tail.run(points.to(tail.device), reach, output=False)
    finally:
        for handle in handles:
            handle.remove()
    seen = [x for x in seen if len(x) == steps + 1]  # modules before the start read one row
    if len(seen) != len(flips):
        raise UsageError(
            f"{middle!r} names {len(seen)} modules behind the start, where {len(flips)} MLPs have codes"
        )
    lengths = np.stack([(x[1:] - x[:-1]).norm(dim=1).cpu().numpy() for x in seen])
    names = tuple(f.name for f in tail.layout.fields)
    return Plateaus(((t[1:] + t[:-1]) / 2).numpy(), names, np.stack(flips).astype(np.int64), lengths)


def _double(sample: Any) -> Any:
    """The same inputs, floating ones in float64."""
    if isinstance(sample, Mapping):
        return {k: _double(v) for k, v in sample.items()}
    if isinstance(sample, tuple):
        return tuple(_double(v) for v in sample)
    return sample.double() if isinstance(sample, Tensor) and sample.is_floating_point() else sample


def _call(model: nn.Module, sample: Any) -> None:
    if isinstance(sample, Mapping):
        model(**sample)
    else:
        model(*sample) if isinstance(sample, tuple) else model(sample)
