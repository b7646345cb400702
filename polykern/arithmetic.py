"""The arithmetic of linear operators: IEEE float32 guarded, float16 and bfloat16 operands by name.

A density map from activations rounded to TF32, float16 or bfloat16 is noise, so nothing here rounds unless
it is asked to by name, and `ieee` switches every hidden rounding of torch off while an engine runs. Named
low precision is meant for differences of neighbouring points (`polykern.anchored`), never for activations.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from polykern.carrier import Linear
from polykern.errors import UsageError

OPERANDS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
Key = tuple[Any, ...]
LARGEST = 2.0**15  # bound on outputs in float16, whose largest number is 65504
UNIT_ROUNDOFF = 2.0**-53  # of float64

_CUDNN: Any = torch.backends.cudnn
_ONEDNN: Any = torch.backends.mkldnn
_PRECISIONS: tuple[Any, ...] = (  # what torch rounds the operands of, for each of its libraries
    torch.backends.cuda.matmul,
    _CUDNN.conv,
    _CUDNN.rnn,
    _ONEDNN.matmul,
    _ONEDNN.conv,
)
_LEGACY: tuple[tuple[Any, str], ...] = (
    (_CUDNN, "allow_tf32"),
    (torch.backends.cuda.matmul, "allow_tf32"),
    (torch.backends.cuda.matmul, "allow_fp16_reduced_precision_reduction"),
    (torch.backends.cuda.matmul, "allow_bf16_reduced_precision_reduction"),
    (torch.backends.cuda.matmul, "allow_fp16_accumulation"),
)


@contextmanager
def ieee() -> Iterator[None]:
    """A context in which float32 means IEEE float32 and sums are float32 or wider.

    TF32 is off in cuBLAS and cuDNN, oneDNN keeps float32, reduced-precision accumulation of float16 and
    bfloat16 products is off, autocast is off. What was set before is set again afterwards. The flags are the
    process's: threads that run beside share them.
    """
    precisions = [p.fp32_precision for p in _PRECISIONS]
    matmul = torch.get_float32_matmul_precision()
    legacy = [_readable(owner, name) for owner, name in _LEGACY]
    try:
        torch.set_float32_matmul_precision("highest")
        for owner, name in _LEGACY:
            setattr(owner, name, False)
        for p in _PRECISIONS:
            p.fp32_precision = "ieee"
        with ExitStack() as stack:
            for device in ("cpu", "cuda"):
                stack.enter_context(torch.autocast(device, enabled=False))
            yield
    finally:
        for (owner, name), value in zip(_LEGACY, legacy, strict=True):
            if value is not None:
                setattr(owner, name, value)
        torch.set_float32_matmul_precision(matmul)
        for p, value in zip(_PRECISIONS, precisions, strict=True):
            p.fp32_precision = value


def _readable(owner: Any, name: str) -> bool | None:
    """A flag's value; None where torch refuses to tell because it was set through both of its interfaces."""
    try:
        return bool(getattr(owner, name))
    except RuntimeError:
        return None


def gamma(terms: int) -> float:
    """Twice Higham's gamma_n: bounds the relative rounding error of a sum of n products in float64.

    The factor two pays for the rounding of the bounds themselves.
    """
    return 2 * (terms + 2) * UNIT_ROUNDOFF


class Units:
    """Powers of two for the places of a pass where differences are rounded to float16.

    The first pass measures at every place; later ones, which take the same way, are given what it found.
    """

    STEP = 4  # exponents are multiples of it, so that parts that are joined mostly have one unit

    def __init__(self) -> None:
        self._found: list[float] = []
        self.forget()

    def forget(self) -> None:
        """The next pass is the first."""
        self._found, self._at = [], 0
        self._joins: dict[int, tuple[int, int, int]] = {}  # place -> first place of its image, first channel, all
        self._images: dict[int, Tensor] = {}  # of this pass

    def begin(self) -> None:
        """A pass begins."""
        self._at = 0
        self._images = {}

    def next(self, largest: Callable[[], float]) -> float:
        """The unit of the next place: entries up to largest(), called in a first pass, lie below 2**STEP in it."""
        if self._at == len(self._found):
            peak = largest()
            exponent = math.frexp(peak)[1] - 1 if 0 < peak < math.inf else 0
            self._found.append(2.0 ** (self.STEP * (max(-96, min(96, exponent)) // self.STEP)))
        self._at += 1
        return self._found[self._at - 1]

    @property
    def place(self) -> int:
        """The last place that was given a unit."""
        return self._at - 1

    def join(self, places: Sequence[int], channels: Sequence[int]) -> None:
        """Images of these places are joined along their channels: later passes write them where they will lie.

        From now on they have one unit. A place is known to be joined once.
        """
        if len(set(places)) < len(places) or any(k in self._joins for k in places):
            return
        unit, offset = max(self._found[k] for k in places), 0
        for place, count in zip(places, channels, strict=True):
            self._joins[place] = places[0], offset, sum(channels)
            self._found[place], offset = unit, offset + count

    def room(self, shape: Sequence[int], device: torch.device) -> Tensor | None:
        """Where the images of the last place go, or None where they are not known to be joined.

        shape    (groups, points, height, width, channels)
        returns  float16, shaped so: some of the channels of a wider image
        """
        if self.place not in self._joins:
            return None
        first, offset, channels = self._joins[self.place]
        if first not in self._images:
            wide = (*shape[:4], channels)
            self._images[first] = torch.empty(wide, dtype=torch.float16, device=device)
        return self._images[first][..., offset : offset + shape[4]]

    def joined(self, places: Sequence[int]) -> Tensor | None:
        """The image that holds all of these places side by side, in this order, or None."""
        image = self._images.get(places[0])
        if image is None or [self._joins.get(k, (-1,))[0] for k in places] != [places[0]] * len(places):
            return None
        offsets = [self._joins[k][1] for k in places]
        whole = len(places) == sum(1 for first, _, _ in self._joins.values() if first == places[0])
        return image if whole and offsets == sorted(offsets) else None


class Arithmetic:
    """Applies linear operators to rows of differences.

    name   "float32": operands and sums in float32.
           "float16", "bfloat16": both operands rounded, sums in float32. float16 operands are scaled by
           powers of two, the weight as a whole and the rows group by group, so that the largest row and the
           largest output stay below 2**15. On CUDA the product runs on the tensor cores and its result is
           rounded to the same format; elsewhere the operands are rounded and multiplied in float32.
    model  whose weights are cast once and kept; other weights are cast at every call
    narrow  of "float16": differences stay float16 between operators, in units of `units`
            (`polykern.anchored.narrow`); otherwise `units` is None and they are float32

    Products with fewer than three terms (gains of BatchNorm, scalings, averages) are always float32.
    """

    def __init__(self, name: str, model: nn.Module | None = None, *, narrow: bool = False) -> None:
        if name not in OPERANDS:
            raise UsageError(f"no arithmetic {name!r}", fix=f"choose one of {', '.join(OPERANDS)}")
        self.name, self.dtype = name, OPERANDS[name]
        if narrow and self.dtype != torch.float16:
            raise UsageError(f"differences in {name} are not narrow", fix="take float16")
        self.units = Units() if narrow else None
        self._model = model  # held, so that the addresses below stay taken
        tensors = [] if model is None else [*model.parameters(), *model.buffers()]
        self._owned = {t.untyped_storage().data_ptr() for t in tensors}
        self._casts: dict[tuple[Key, torch.dtype], tuple[Tensor, float]] = {}
        self._readers: dict[Key, tuple[Tensor, ...]] = {}  # weight -> all that read the same image
        self._beside: dict[tuple[Key, ...], Tensor] = {}

    def product(self, linear: Linear, rows: Tensor, groups: int) -> Tensor:
        """op(rows, weight) without the bias.

        linear  the operator; its bias is left out
        rows    float32 (groups * points, *units)
        groups  rows of one group are scaled by one power of two
        returns float32 (groups * points, *units behind the operator)
        """
        if linear.weight is None:
            return linear.op(rows, None)
        if self.dtype == torch.float32 or linear.terms < 3:
            return linear.op(rows, self._cast(linear.weight, torch.float32)[0])
        weight, unit = self._cast(linear.weight, self.dtype)
        if self.dtype == torch.bfloat16:  # as wide a range as float32
            return linear.op(self._rounded(rows), weight).float() * unit
        scale = _power(rows, groups, LARGEST / max(2.0, linear.terms))
        each = scale.repeat_interleave(len(rows) // groups).reshape(-1, *(1,) * (rows.ndim - 1))
        out = linear.op(self._rounded(rows * each), weight).float()
        return out * (unit / each).reshape(-1, *(1,) * (out.ndim - 1))

    def narrow_product(self, linear: Linear, rows: Tensor) -> tuple[Tensor, float]:
        """op(rows, weight) without the bias, rounded to float16, and the unit to multiply it by.

        linear  the operator, with a weight; its bias is left out
        rows    float16 (n, *units), entries below 2**Units.STEP
        """
        assert linear.weight is not None
        weight, unit = self._cast(linear.weight, torch.float16)
        return linear.op(self._rounded(rows), weight).half(), unit

    def narrow_products(self, linear: Linear, rows: Tensor) -> dict[Key, tuple[Tensor, float]]:
        """`narrow_product` of a convolution and of all that are known to read the same image, in one product.

        linear  a convolution of one pixel, with a weight of the model
        rows    float16 (n, channels, height, width)
        returns by `weight_key`: float16 (n, outputs, height, width), beside those of the others, and the unit
        """
        assert linear.weight is not None
        weights = self._readers.get(weight_key(linear.weight), (linear.weight,))
        keys, casts = [weight_key(w) for w in weights], [self._cast(w, torch.float16) for w in weights]
        if tuple(keys) not in self._beside:
            together = torch.cat([w for w, _ in casts])
            self._beside[tuple(keys)] = together.contiguous(memory_format=torch.channels_last)
        out = linear.op(self._rounded(rows), self._beside[tuple(keys)]).half()
        parts = out.split([len(w) for w in weights], 1)
        return {key: (part, unit) for key, part, (_, unit) in zip(keys, parts, casts, strict=True)}

    def read_together(self, weights: Sequence[Tensor]) -> None:
        """These weights of the model are multiplied with the same image; later passes do so in one product."""
        self._readers.update(dict.fromkeys(map(weight_key, weights), tuple(weights)))

    def owns(self, weight: Tensor) -> bool:
        """Whether it belongs to the model, and stays where it is."""
        return weight.untyped_storage().data_ptr() in self._owned

    def narrow_weight(self, weight: Tensor) -> tuple[Tensor, float]:
        """A weight in float16, and the unit to multiply by."""
        narrow, unit = self._cast(weight, torch.float16)
        return narrow.half(), unit

    def _cast(self, weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, float]:
        """The weight in `dtype`, its largest entry in [1/2, 1) for float16, and the unit to multiply by."""
        if not self.owns(weight):
            return self._made(weight, dtype)
        key = (weight_key(weight), dtype)
        if key not in self._casts:
            self._casts[key] = self._made(weight, dtype)
        return self._casts[key]

    def _made(self, weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, float]:
        if dtype == torch.float32:
            return weight.float(), 1.0
        unit = 1.0
        if dtype == torch.float16:
            largest = float(weight.abs().max())
            unit = math.ldexp(1.0, math.frexp(largest)[1]) if 0 < largest < math.inf else 1.0
        narrow = self._rounded(weight / unit, dtype)
        if self.units is not None and narrow.ndim == 4:
            narrow = narrow.contiguous(memory_format=torch.channels_last)
        return narrow, unit

    def _rounded(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        narrow = x.to(dtype or self.dtype)
        return narrow if x.is_cuda else narrow.float()


def weight_key(weight: Tensor) -> Key:
    """What tells weights of a model apart, and from what they were before they were changed."""
    return (weight.data_ptr(), tuple(weight.shape), weight.stride(), weight.dtype, weight._version)


def _power(rows: Tensor, groups: int, largest: float) -> Tensor:
    """float32 (groups,): the power of two that brings each group's largest |entry| below `largest`."""
    flat = rows.reshape(groups, -1)
    peak = torch.maximum(flat.amax(1), -flat.amin(1))
    room = math.frexp(largest)[1] - 1  # floor(log2)
    exponent = torch.where(peak > 0, room - torch.frexp(peak).exponent, 0).clamp(-100, 100)
    return torch.ldexp(torch.ones_like(peak), exponent)
