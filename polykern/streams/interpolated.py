"""The residual stream interpolated from one text to another: where the codes of its MLPs and the output change."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polykern.arithmetic import ieee
from polykern.errors import UsageError
from polykern.streams.norms import normed
from polykern.tail import Meeting, Tail

STEPS = 50


@dataclass(frozen=True, eq=False)
class Plateaus:
    """Bits of each MLP that change along an interpolation of the residual stream, per length of the step there.

    t        float64 (steps)          in the middle of each step
    fields   names of the nonlinearities, in order
    flips    int64 (fields, steps)    bits of the last token that change
    lengths  float64 (fields, steps)  L2, of the last token's step in front of each MLP
    moved    float64 (steps)          L2, of its step in the output
    tokens   int64 (steps + 1)        the most likely next one at each point; None without a head
    """

    t: NDArray[np.float64]
    fields: tuple[str, ...]
    flips: NDArray[np.int64]
    lengths: NDArray[np.float64]
    moved: NDArray[np.float64]
    tokens: NDArray[np.int64] | None

    @property
    def density(self) -> NDArray[np.float64]:
        """float64 (fields, steps): bits per unit of length; nan where nothing moves."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.flips / self.lengths)


def plateaus(
    tail: Tail, a: Tensor, b: Tensor, middle: str, *, head: Tensor | None = None, steps: int = STEPS
) -> Plateaus:
    """Bits of every MLP that change while the last token's residual vector goes from one text's to another's.

    tail    a transformer from a block on; it is evaluated in float64
    a, b    float (tokens, width): what enters the block for two texts of one length. The tokens in front are a's
    middle  glob over modules that read the residual stream in front of each MLP, one an MLP: "*.ln_2"
    head    float (vocabulary, width): rows whose products with the output say how likely each next token is
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
    modules = [m for name, m in tail.model.named_modules() if fnmatchcase(name, middle)]
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

    handles = [m.register_forward_pre_hook(note) for m in modules]
    try:
        with ieee(), normed(dict(tail.model.named_modules())):
            out = tail.run(points.to(tail.device), reach)
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
    hidden = (out if isinstance(out, Tensor) else out[0])[:, -1]
    moved = (hidden[1:] - hidden[:-1]).norm(dim=1).cpu().numpy()
    likely = None if head is None else (hidden @ head.to(hidden).T).argmax(1).cpu().numpy()
    middles = ((t[1:] + t[:-1]) / 2).numpy()
    return Plateaus(middles, names, np.stack(flips).astype(np.int64), lengths, moved, likely)
