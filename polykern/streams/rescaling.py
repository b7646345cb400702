"""The residual stream of a transformer scaled in front of a block: which bits of its MLPs change."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polykern.arithmetic import ieee
from polykern.errors import UsageError
from polykern.selectors import Select
from polykern.streams.norms import behind, normed
from polykern.tracing import trace
from polykern.walk import outputs_of
from polykern.wrappers import moved

SCALES = tuple(np.geomspace(0.1, 10, 21).tolist())
NORMS = ("live", "ideal", "held", "frozen")


@dataclass(frozen=True, eq=False)
class Rescaling:
    """Bits that change when the residual stream is scaled.

    scales  float64 (n)
    fields  names of the nonlinearities, in order
    flips   int64 (fields, n, items)   bits of each that change, over all tokens of an item
    bits    int64 (fields)             that each has for an item
    """

    scales: NDArray[np.float64]
    fields: tuple[str, ...]
    flips: NDArray[np.int64]
    bits: NDArray[np.int64]

    @property
    def share(self) -> NDArray[np.float64]:
        """float64 (fields, n): of the bits of each, over all tokens of all items."""
        return np.asarray(self.flips.mean(2) / self.bits[:, None])


def rescaled(
    model: nn.Module,
    sample: Any,
    block: str,
    attention: str,
    *,
    scales: Sequence[float] = SCALES,
    norms: str = "live",
    select: Select = "*",
) -> Rescaling:
    """Bits that change in every MLP when the residual stream between attention and MLP of a block is scaled.

    model      a pre-norm transformer in eval mode
    sample     its inputs: a tensor, a tuple of positional or a dict of keyword arguments
    block      dotted name of the block
    attention  name of its attention inside the block, whose output is added to the stream
    scales     factors
    norms      "live"    as they are
               "ideal"   with an eps of 0
               "held"    the one in front of the block's MLP keeps the deviations of the unscaled run, and so no
                         longer takes the factor away
               "frozen"  it and all behind it keep them
    select     which nonlinearities are looked at (`polykern.selectors`)

    A LayerNorm or RMSNorm in front takes every positive factor away, up to its eps: with an ideal one nothing
    changes in the block itself. Behind it the stream is s x + f(LN(x)), another direction. Evaluated in float64.
    Errors: UsageError for no factor, one that is not positive, a module that there is not, or a kind of norm that
    is not known; CorruptError where frozen norms let a gated network grow beyond float64.
    """
    if norms not in NORMS:
        raise UsageError(f"no norms are {norms!r}", fix=f"choose one of {', '.join(NORMS)}")
    if not len(scales) or not all(0 < s < float("inf") for s in scales):
        raise UsageError(
            "the residual stream is scaled by positive factors, one at least", why="LayerNorm takes no other away"
        )
    clone = moved(copy.deepcopy(model), None, torch.float64)
    known = dict(clone.named_modules())
    for name in (block, f"{block}.{attention}"):
        if name not in known:
            raise UsageError(f"the model has no module {name!r}", fix="polykern layers MODEL prints what there is")
    inputs = _double(sample)
    codes = []
    kept: list[str] = []
    if norms in ("held", "frozen"):
        following = behind(known, f"{block}.{attention}", lambda: _pass(clone, inputs))
        kept = following[:1] if norms == "held" else following
    with normed(known, ideal=norms == "ideal", kept=kept):
        for scale in (1.0, *scales):
            with ExitStack() as stack:
                stack.enter_context(_scaled(known[block], known[f"{block}.{attention}"], scale))
                traced = stack.enter_context(trace(clone, select=select))
                _pass(clone, inputs)
            codes.append(traced.codes)
    flips = np.stack([codes[0].aligned_by_field(c).cpu().numpy() for c in codes[1:]], 1).astype(np.int64)
    fields = codes[0].layout.fields
    bits = np.array([f.bits for f in fields])
    return Rescaling(np.asarray(scales, np.float64), tuple(f.name for f in fields), flips, bits)


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


def _double(sample: Any) -> Any:
    """The same inputs, floating ones in float64."""
    if isinstance(sample, Mapping):
        return {k: _double(v) for k, v in sample.items()}
    if isinstance(sample, tuple):
        return tuple(_double(v) for v in sample)
    return sample.double() if isinstance(sample, Tensor) and sample.is_floating_point() else sample


def _pass(model: nn.Module, sample: Any) -> None:
    with torch.no_grad(), ieee():
        outputs_of(model, sample)
