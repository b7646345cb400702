"""The scanline engine: exact maps of nonlinearities that are the first on their way from the plane.

On a plane x = o + u e1 + v e2 an affine layer is z = P0 + u P1 + v P2. Behind one LayerNorm or RMSNorm

    z = (n0 + u n1 + v n2 + b' s) / s,    s = sqrt(Q(u, v) / d + eps),

with one quadratic Q for all neurons; the sign does not see the division. So a code is a set of lines or conics and
a map costs O(bits) a row and a column (`polykern_kernels.scanline`), whatever the activation behind them: only
signs are read. An MLP block of GPT-2 is all of this kind. Everything is float64.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from polykern.arithmetic import UNIT_ROUNDOFF, gamma
from polykern.block import Block, BlockMaps
from polykern.carrier import Carrier, Linear, NotCarried
from polykern.counting import placed
from polykern.errors import UsageError
from polykern.plane import Grid, Plane
from polykern.tail import Meeting, Tail
from polykern_kernels import digest, scanline
from polykern_kernels.scanline import Curves, Lattice

NORMS = (F.layer_norm, torch.layer_norm, F.rms_norm, torch.rms_norm)


@dataclass(frozen=True, slots=True)
class Norm:
    """The one s = sqrt(|factor (1, u, v)|^2 + eps) of a LayerNorm on a plane.

    factor  float64 (3, 3)  triangular, so that its rows' squares sum without cancellation
    blur    float64 (3)     error bound of s: blur . (1, |u|, |v|)
    eps     of the LayerNorm
    """

    factor: Tensor
    blur: Tensor
    eps: float

    def at(self, u: Tensor, v: Tensor) -> tuple[Tensor, float]:
        """s at every (v, u), float64 (len(v), len(u)), and the rounding error of s."""
        total = torch.full((len(v), len(u)), self.eps, dtype=torch.float64)
        for row in self.factor:
            total += (row[0] + row[1] * u + row[2] * v[:, None]).square()
        far = torch.stack([torch.ones_like(u[0]), u.abs().max(), v.abs().max()])
        return total.sqrt_(), 16 * UNIT_ROUNDOFF * float((self.factor.abs() @ far).sum())


class Sheet(Carrier):
    """Values on a plane, (rows[0] + u rows[1] + v rows[2]) / s + rows[3] with s = 1 before a norm.

    rows   float64 (4, *units)
    error  float64 (4, *units)  bound of |rows - the true ones|
    norm   the norm passed, or None
    spent  the call behind which nothing is affine any more, or ""; rows then only keep the shape
    """

    def __init__(self, rows: Tensor, error: Tensor, norm: Norm | None = None, spent: str = "") -> None:
        self.rows, self.error, self.norm, self.spent = rows, error, norm, spent

    @property
    def shape(self) -> torch.Size:
        return torch.Size((1, *self.rows.shape[1:]))

    def apply(self, linear: Linear) -> "Sheet":
        weight = None if linear.weight is None else linear.weight.abs()
        rows = linear.op(self.rows, linear.weight)
        rounding = gamma(linear.terms) * self.rows.abs() if linear.terms else 0.0
        error = linear.op(self.error + rounding, weight).abs()
        if linear.bias is not None:
            rows, error = rows.clone(), error.clone()
            at = 0 if self.norm is None else 3
            rows[at] += linear.bias
            error[at] += UNIT_ROUNDOFF * rows[at].abs()
        return Sheet(rows, error, self.norm, self.spent)

    @classmethod
    def combine(cls, parts: Sequence[Any], op: Callable[[list[Tensor]], Tensor], terms: int) -> "Sheet":
        sheets = [p for p in parts if isinstance(p, Sheet)]
        norm = sheets[0].norm
        spent = next((s.spent for s in sheets if s.spent), "")
        if any(s.norm is not norm for s in sheets):
            spent = spent or "a sum around a LayerNorm"
        constant = 0 if norm is None else 3
        rows, errors = [], []
        for p in parts:
            rows.append(p.rows if isinstance(p, Sheet) else _constant(p, constant))
            errors.append(p.error if isinstance(p, Sheet) else torch.zeros_like(rows[-1]))
        error = torch.zeros(())
        for i, (r, e) in enumerate(zip(rows, errors, strict=True)):  # alone, so that nothing cancels
            lone = [torch.zeros_like(q) for q in rows]
            lone[i] = e + gamma(terms) * r.abs()
            error = error + op(lone).abs()
        return cls(op(rows), error, norm, spent)

    def other(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if func in NORMS and self.norm is None and not self.spent and args and args[0] is self:
            return self._normalised(func is F.layer_norm or func is torch.layer_norm, *args[1:], **kwargs)
        return self._after(getattr(func, "__name__", str(func)), func, args, kwargs)

    def _normalised(
        self,
        centred: bool,
        normalized_shape: Sequence[int],
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float | None = None,
        *rest: Any,
    ) -> "Sheet":
        if not centred:  # rms_norm has no bias; its fourth argument is eps
            bias, eps = None, bias if isinstance(bias, float) else eps
        units = self.rows.shape[1:]
        if torch.Size(normalized_shape).numel() != units.numel():
            raise NotCarried(
                f"a norm over {list(normalized_shape)} of {list(units)}: every position has its own scale"
            )
        x, error = self.rows[:3].flatten(1), self.error[:3].flatten(1)
        dims = x.shape[1]
        if centred:
            mean = x.abs().mean(1, keepdim=True)
            error = error + error.mean(1, keepdim=True) + gamma(dims) * (x.abs() + mean)
            x = x - x.mean(1, keepdim=True)
        factor = torch.linalg.qr(x.T / dims**0.5, mode="r").R
        blur = (error.norm(dim=1) + gamma(8 * dims) * x.norm(dim=1)) / dims**0.5
        norm = Norm(factor, blur, torch.finfo(torch.float64).eps if eps is None else float(eps))
        gain = torch.ones(dims, dtype=torch.float64) if weight is None else weight.detach().double().flatten()
        shift = torch.zeros(dims, dtype=torch.float64) if bias is None else bias.detach().double().flatten()
        rows = torch.cat([x * gain, shift[None]]).unflatten(1, units)
        error = torch.cat([error * gain.abs() + UNIT_ROUNDOFF * (x * gain).abs(), torch.zeros_like(shift)[None]])
        return Sheet(rows, error.unflatten(1, units), norm)

    def _after(self, cause: str, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Only the shapes go on, so that branches beside this one can still be followed."""
        plain = [a.rows if isinstance(a, Sheet) else a for a in args]
        out = func(*plain, **{k: a.rows if isinstance(a, Sheet) else a for k, a in kwargs.items()})
        many = out if isinstance(out, (tuple, list)) else (out,)
        wrapped = tuple(Sheet(t, torch.zeros_like(t), None, self.spent or cause) for t in many)
        return wrapped if many is out else wrapped[0]


def _constant(value: Tensor, at: int) -> Tensor:
    if len(value) != 1:
        raise NotCarried("a constant that differs from point to point")
    out = value.new_zeros((4, *value.shape[1:]), dtype=torch.float64)
    out[at] = value[0]
    return out


@dataclass(frozen=True, slots=True)
class Affine:
    """The selected pre-activations on one plane: what all its blocks share.

    coefficient  float64 (bits, 3) of (1, u, v), thresholds subtracted
    bend         float64 (bits) of s
    error        float64 (bits, 4) bounds of the errors of these four
    field        int32 (bits)
    norm         or None
    """

    coefficient: Tensor
    bend: Tensor
    error: Tensor
    field: Tensor
    norm: Norm | None


class ScanlineEngine:
    """Maps of lines and conics, O(bits) a row and a column; large blocks are cheapest.

    tail     the network; it is copied to float64, on the CPU
    classes  False: the maps have none. None: they are wanted when the model's own output is a vector of another
             length than a point (an MLP block gives back a hidden vector, which has no class)
    errors   UsageError when a selected nonlinearity is not affine on planes, or behind more than one norm, or when
             classes are wanted: the output lies behind the nonlinearity
    """

    name = "scanline"
    dtype = "float64"
    margin = "certified lower bound"

    def __init__(self, tail: Tail, *, classes: bool | None = None) -> None:
        if classes or (classes is None and _ends_in_classes(tail)):
            raise UsageError(
                "lines and conics give no classes: the output lies behind the nonlinearities",
                fix="--no-classes, end at the nonlinearity (--stop MODULE), or take another engine",
            )
        self.tail = placed(tail, torch.float64, "cpu")
        self._plane: Plane | None = None
        probe = torch.zeros((4, *tail.input_shape), dtype=torch.float64)
        probe[0] = 1.0
        self._affine = self._send(probe)
        self._keys = digest.keys(tail.layout.bits)

    def blocks(self, grid: Grid, blocks: Sequence[Block]) -> list[BlockMaps]:
        """The maps of `blocks`, in order."""
        if self._plane is not grid.plane:
            p = grid.plane
            self._affine = self._send(torch.stack([p.origin, p.e1, p.e2, torch.zeros_like(p.origin)]))
            self._plane = p
        return [self._block(grid, b) for b in blocks]

    def _block(self, grid: Grid, block: Block) -> BlockMaps:
        rows = torch.arange(block.row, block.row + block.height + 1)
        columns = torch.arange(block.column, block.column + block.width + 1)
        u = grid.uv(torch.zeros_like(columns), columns)[:, 0].contiguous()
        v = grid.uv(rows, torch.zeros_like(rows))[:, 1].contiguous()
        a = self._affine
        radius, blur = (
            (torch.ones((len(v), len(u)), dtype=torch.float64), 0.0) if a.norm is None else a.norm.at(u, v)
        )
        lattice = Lattice(u, v, radius, blur)
        far = torch.stack([torch.ones_like(u[0]), u.abs().max(), v.abs().max()])
        tolerance = a.error[:, :3] @ far + a.error[:, 3] * radius.max()
        if a.norm is not None:
            tolerance = tolerance + a.bend.abs() * (a.norm.blur @ far)
        tolerance = tolerance + scanline.rounding(a.coefficient, a.bend, lattice)
        curves = Curves(a.coefficient, a.bend, self._keys, a.field, tolerance)
        right, down, prints = scanline.crossings(curves, lattice, len(self.tail.layout.fields))
        margin, uncertain = scanline.margins(curves, lattice)
        return BlockMaps(right.numpy(), down.numpy(), None, margin.numpy(), prints.numpy(), uncertain)

    def _send(self, rows: Tensor) -> Affine:
        """Send 1, u, v through the tail."""
        met: list[tuple[Sheet | Tensor, tuple[float, ...]]] = []

        def reach(meeting: Meeting) -> Any:
            z, field = meeting.z, meeting.field
            if field is not None:
                met.append((z, field.thresholds))
            if isinstance(z, Tensor):  # a branch beside the start: the same everywhere
                return meeting.proceed()
            if field is not None and z.spent:
                raise NotCarried(f"{field.name} lies behind {z.spent}")
            return Sheet(z.rows, z.error, None, z.spent or meeting.activation.kind)

        try:
            self.tail.run(Sheet(rows, 4 * UNIT_ROUNDOFF * rows.abs()), reach, output=False)
            return _gathered(met)
        except NotCarried as reason:
            raise UsageError(
                f"the selected nonlinearities are not the first ones: {reason}",
                why="the scanline engine follows affine layers and one LayerNorm",
                fix="select nonlinearities of the first layer, or take --engine tiles or anchored",
            ) from reason


def _ends_in_classes(tail: Tail) -> bool:
    out = tail.output_shape
    return out is not None and len(out) == 1 and out != tail.input_shape and not tail.stop


def _gathered(met: Sequence[tuple[Sheet | Tensor, tuple[float, ...]]]) -> Affine:
    """The bits of all nonlinearities, in the order of the layout."""
    norms = {id(z.norm): z.norm for z, _ in met if isinstance(z, Sheet)}
    if len(norms) > 1:
        raise NotCarried("nonlinearities before and behind a LayerNorm, or behind several")
    norm = next(iter(norms.values()), None)
    constant = 0 if norm is None else 3
    coefficient, bend, error, field = [], [], [], []
    for number, (z, thresholds) in enumerate(met):
        rows = _constant(z, constant) if isinstance(z, Tensor) else z.rows
        errors = torch.zeros_like(rows) if isinstance(z, Tensor) else z.error
        for t in thresholds:
            units = rows.flatten(1).clone()
            units[constant] -= t
            coefficient.append(units[:3].T)
            bend.append(units[3])
            error.append((errors.flatten(1) + UNIT_ROUNDOFF * units.abs()).T)
            field.append(torch.full((units.shape[1],), number, dtype=torch.int32))
    return Affine(torch.cat(coefficient), torch.cat(bend), torch.cat(error), torch.cat(field), norm)
