"""Soft codes: probabilities in place of bits, for smooth activations and for the beta-VQ of a ReLU.

    q(u) in 0 ... 1 for each unit, u its pre-activation;    q_eta(u) = q(eta (u - t))

    GELU      q = Phi: the chance that u + N(0, 1) > 0; the tanh form has its own
    SiLU      q = sigma, which is the beta-VQ of a ReLU with eta = beta / (1 - beta) = 1
    any f     with f(u) = q(u) u and q rising from 0 to 1 (mish, hardswish, ...): that q
    softplus  q = f', the choice that maximises q u + entropy(q) / eta, whose value softplus is
    kinks     (ReLU, leaky ReLU, ReLU6, ...) q = sigma(eta (u - t)) at every threshold t: the chance that u + noise
              / eta > t for logistic noise

eta -> infinity is the hard code, bit by bit. Between two soft codes p and q lie

    expected Hamming   sum p (1 - q) + q (1 - p)      of two codes drawn independently
    total variation    sum |p - q|                    the least expected Hamming distance of any joint draw

which are equal exactly when both codes are hard. A *thermometer* of k levels writes every q as k bits,
q > (j + 1/2) / k: its Hamming distance over k is the total variation within 1/k a unit, and every kernel of packed
codes serves it.
Black et al. 2022, "Interpreting Neural Networks through the Polytope Lens", appendix C; Balestriero, Baraniuk 2018,
"From Hard to Soft: Understanding Deep Network Nonlinearities via Vector Quantization and Statistical Inference".
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from polykern.activations import Activation
from polykern.codes import Codes, joined, packed
from polykern.errors import UsageError
from polykern.layout import Field, Layout
from polykern.selectors import Select
from polykern.tail import Meeting, Tail, tail_of

Rule = Callable[[Tensor], Tensor]  # u / scale -> q
FAR = 2.0**10  # pre-activations at which a soft code has come to its limits
PROBES = 4001  # places between -40 and 40 at which a rule is looked at
HALVINGS = 1100  # from the widest float64 interval around 0 down to neighbours


@dataclass(frozen=True, eq=False)
class SoftCodes:
    """The soft codes of n points.

    probabilities  float32 (n, layout.bits)   q of every bit of the hard code
    layout         of the hard code
    codes          the thermometer: packed codes with `levels` thresholds where the hard code has one
    levels         thresholds a bit
    eta            sharpness
    """

    probabilities: Tensor
    layout: Layout
    codes: Codes
    levels: int
    eta: float

    def __len__(self) -> int:
        return len(self.probabilities)

    def expected_hamming(self, other: "SoftCodes | None" = None) -> Tensor:
        """float64 (n, m): expected Hamming distances of all pairs; with itself, of two independent draws."""
        return expected_hamming(*self._with(self if other is None else other))

    def total_variation(self, other: "SoftCodes | None" = None) -> Tensor:
        """float64 (n, m): sum |p - q| of all pairs."""
        return total_variation(*self._with(self if other is None else other))

    def thermometer_distances(self, other: "SoftCodes | None" = None) -> Tensor:
        """float64 (n, m): Hamming distances of the thermometers over their levels, by packed words.

        Within `bound` of `total_variation`.
        """
        other = self if other is None else other
        self._with(other)
        return self.codes.distances(other.codes).double() / self.levels

    @property
    def bound(self) -> float:
        """How far a thermometer's distance may be from the total variation: bits / levels."""
        return self.layout.bits / self.levels

    def _with(self, other: "SoftCodes") -> tuple[Tensor, Tensor]:
        self.layout.require_same(other.layout)
        if (self.levels, self.eta) != (other.levels, other.eta):
            raise UsageError(
                f"soft codes of levels and eta {(self.levels, self.eta)} against {(other.levels, other.eta)}"
            )
        return self.probabilities, other.probabilities


def soft_codes(
    network: Tail | nn.Module,
    points: Tensor,
    *,
    eta: float = 1.0,
    levels: int = 7,
    select: Select = "*",
    batch: int = 256,
) -> SoftCodes:
    """The soft codes of points in the space of a start module.

    network  a `Tail`, which has a start of its own; or a model in eval mode, whose inputs the points are
    points   (n, *shape), any float dtype and device: they are copied to the network's
    eta      > 0: sharpness. 1: smooth activations as they are, a ReLU as a SiLU; inf: the hard code
    levels   >= 1: thresholds of the thermometer a bit; 1 is q > 1/2
    select   with a model: which nonlinearities make the code (`polykern.selectors`); a Tail has chosen
    batch    points in one forward pass
    returns  probabilities and thermometers of the n points, on the network's device

    The network computes as it always does; only what is read of its pre-activations is soft. Thermometer bits are
    exact comparisons of pre-activations with q^-1((j + 1/2) / levels) in float64; probabilities are float32.
    Errors: UsageError when a shape does not fit, or an activation has no soft code; CorruptError for NaN.
    """
    if not eta > 0 or levels < 1:
        raise UsageError(f"soft codes need eta > 0 and levels >= 1, got {eta} and {levels}")
    tail = tail_of(network, points, select)
    if points.shape[1:] != tail.input_shape or not len(points):
        raise UsageError(f"points must have shape {['n >= 1', *tail.input_shape]}, got {list(points.shape)}")
    reader = _Reader(eta, levels)
    for part in points.split(batch):
        reader.read(tail, part)
    layout = Layout.of(reader.fields.values())
    codes = Codes.cat([joined(words, layout, {}) for words in reader.words])
    return SoftCodes(torch.cat(reader.probabilities), tail.layout, codes, levels, eta)


class _Reader:
    """Reads pre-activations as they are met: probabilities, thermometers and the thermometers' fields."""

    def __init__(self, eta: float, levels: int) -> None:
        self.eta, self.levels = eta, levels
        self.fields: dict[str, Field] = {}
        self.probabilities: list[Tensor] = []
        self.words: list[list[Tensor]] = []

    def read(self, tail: Tail, points: Tensor) -> None:
        """One batch."""
        soft: list[Tensor] = []
        words: list[Tensor] = []

        def reach(met: Meeting) -> object:
            if met.field is not None:
                self._known(met.field, met.activation)
                words.append(packed(self.fields[met.field.name], met.z))
                soft.append(probabilities(met.activation, met.z, eta=self.eta).expand(len(points), -1))
            return met.proceed()

        tail.run(tail.taken(points), reach, output=False)  # an in-place ReLU may overwrite them
        self.words.append(words)
        self.probabilities.append(torch.cat(soft, 1))

    def _known(self, field: Field, activation: Activation) -> None:
        if field.name not in self.fields:
            at = tuple(t for one in field.thresholds for t in thresholds(activation, one, self.levels, self.eta))
            self.fields[field.name] = replace(field, thresholds=at)


def probabilities(activation: Activation, z: Tensor, *, eta: float = 1.0) -> Tensor:
    """The soft code of pre-activations.

    z        float (n, *units)
    eta      sharpness; inf: 1 where z > threshold, else 0
    returns  float32 (n, thresholds * units), threshold-major as the bits of a field

    Errors: UsageError where the activation has no soft code.
    """
    flat, rule = z.detach().reshape(len(z), -1), rule_of(activation)
    parts = []
    for t in activation.thresholds:
        if math.isinf(eta):
            parts.append((flat > t).float())
        else:
            parts.append(rule(eta * (flat.double() - t)).clamp(0.0, 1.0).float())
    return torch.cat(parts, 1)


def thresholds(activation: Activation, at: float, levels: int, eta: float = 1.0) -> tuple[float, ...]:
    """The pre-activations t + q^-1((j + 1/2) / levels) / eta, j = 0 ... levels - 1, around a threshold t.

    So pre-activation > threshold says q > level, up to the rounding of q in float64. What belongs to q(0) is t
    itself, as for the bit of a hard code.
    """
    if math.isinf(eta):
        return (at,) * levels
    rule = rule_of(activation)
    level = (torch.arange(levels, dtype=torch.float64) + 0.5) / levels
    low, high = torch.full_like(level, -FAR), torch.full_like(level, FAR)
    for _ in range(HALVINGS):
        middle = low + (high - low) / 2
        if bool(((middle == low) | (middle == high)).all()):
            break
        below = rule(middle) <= level
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    flat = rule(torch.zeros_like(level)) == level  # around 0 a rule is constant within its rounding
    return tuple((at + torch.where(flat, 0.0, low) / eta).tolist())


def rule_of(activation: Activation) -> Rule:
    """The rule q of an activation: a rising function from 0 to 1 of tensors.

    Errors: UsageError where the activation has none, as a shifted or a falling one.
    """
    if activation.piecewise_linear:
        return torch.sigmoid
    rule: Rule = activation.gate
    if activation.kind == "softplus":
        rule = _slope(activation)
    try:
        seen = rule(torch.linspace(-40, 40, PROBES, dtype=torch.float64))
    except ValueError:
        seen = torch.full((1,), torch.nan)
    rises = bool((seen.diff() > -1e-9).all())
    if not (rises and seen[0] < 0.05 and seen[-1] > 0.95 and seen.min() > -1e-9 and seen.max() < 1 + 1e-9):
        raise UsageError(
            f"{activation.kind} has no soft code",
            why="it is no product of its input and a probability that rises with it",
            fix="select other nonlinearities",
        )
    return rule


def expected_hamming(p: Tensor, q: Tensor) -> Tensor:
    """float64 (n, m): sum p (1 - q) + q (1 - p), of probabilities (n, bits) and (m, bits)."""
    a, b = p.double(), q.double()
    return a.sum(1)[:, None] + b.sum(1)[None] - 2 * a @ b.T


def total_variation(p: Tensor, q: Tensor) -> Tensor:
    """float64 (n, m): sum |p - q|, of probabilities (n, bits) and (m, bits)."""
    return torch.cdist(p.double(), q.double(), p=1.0)


def _slope(activation: Activation) -> Rule:
    function = activation.function
    assert function is not None

    def slope(u: Tensor) -> Tensor:
        with torch.enable_grad():
            (found,) = torch.autograd.grad(function(x := u.detach().requires_grad_()).sum(), x)
        return found

    return slope
