"""Codes of sparse autoencoders: which of their units are active on an activation vector.

A sparse autoencoder has its nonlinearity beside the network, so that no pass through the network meets it; its code
is computed from its tensors. With the encoder's input y and pre-activations z = y W + b a unit's bit is

    relu        z > 0
    jumprelu    z > max(threshold, 0), a threshold for every unit
    topk        z > 0 and among the k largest of its row
    batchtopk   z > 0 and among the k n largest of all n rows together
    gated       gate > 0, where z is the gate's pre-activation

For relu and jumprelu the regions are those of hyperplanes; those of topk are power diagrams ("SplInterp" 2025,
arXiv:2505.11836), and the bits of batchtopk depend on the rows they come with: for codes of single rows take its
trained threshold, as jumprelu. Of equal values at the last place the smaller unit is active, in batchtopk that of
the earlier row.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from polykern.arithmetic import ieee
from polykern.codes import Codes
from polykern.encoders import encoder_of
from polykern.errors import CorruptError, UsageError
from polykern.layout import Field, Layout
from polykern_kernels import pack

KINDS = ("relu", "jumprelu", "topk", "batchtopk", "gated")
NORMALISATIONS = ("none", "constant_norm_rescale", "layer_norm")
EPSILON = 1e-5  # of layer_norm, added to the standard deviation


@dataclass(frozen=True, eq=False)
class SparseAutoencoder:
    """The encoder of a sparse autoencoder (or transcoder), as tensors of one dtype and device.

    weight         float (dimensions, units)   W
    bias           float (units)               b; of a gated one, the gate's
    kind           one of KINDS
    centre         float (dimensions)          subtracted from the input, W_dec's bias; None: nothing
    threshold      float (units)               of jumprelu
    k              units that stay active, of topk a whole number; of batchtopk the mean of a row
    rank           float (units)               topk and batchtopk order z times this: norms of W_dec's rows
    normalisation  of the input, before `centre`: none; constant_norm_rescale, to the norm sqrt(dimensions);
                   layer_norm, to mean 0 and deviation 1
    factor         the input is multiplied by it first
    name           of the field in the layout of its codes
    decoder        float (units, outputs)      W_dec; None: nothing can be rebuilt
    offset         float (outputs)             b_dec, added to what is rebuilt; None: nothing

    Errors: UsageError for shapes that do not fit, or what its kind needs and lacks; CorruptError for NaN.
    """

    weight: Tensor
    bias: Tensor
    kind: str = "relu"
    centre: Tensor | None = None
    threshold: Tensor | None = None
    k: float | None = None
    rank: Tensor | None = None
    normalisation: str = "none"
    factor: float = 1.0
    name: str = "sae"
    decoder: Tensor | None = None
    offset: Tensor | None = None

    def __post_init__(self) -> None:
        _require_one_of("kind of sparse autoencoder", self.kind, KINDS)
        _require_one_of("normalisation", self.normalisation, NORMALISATIONS)
        if self.weight.ndim != 2 or not self.weight.is_floating_point():
            raise UsageError(f"the encoder's weight is float (dimensions, units), got {_told(self.weight)}")
        dimensions, units = self.weight.shape
        outputs = dimensions if self.decoder is None else self.decoder.shape[-1]
        shapes: dict[str, tuple[int, ...]] = {
            "bias": (units,), "centre": (dimensions,), "threshold": (units,), "rank": (units,),
            "decoder": (units, outputs), "offset": (outputs,),
        }  # fmt: skip
        for name, shape in shapes.items():
            given: Tensor | None = getattr(self, name)
            if given is not None and given.shape != shape:
                wanted = ", ".join(map(str, shape))
                raise UsageError(f"{name} of an encoder {dimensions} -> {units} is ({wanted}), got {_told(given)}")
        for name in ("weight", *shapes):
            if (given := getattr(self, name)) is not None and given.isnan().any():
                raise CorruptError(f"the {name} of the sparse autoencoder holds NaN")
        if self.kind == "jumprelu" and self.threshold is None:
            raise UsageError("a JumpReLU autoencoder has a threshold for every unit", fix="give threshold")
        if self.kind in ("topk", "batchtopk"):
            self._require_k(units)

    @classmethod
    def of(cls, sae: Any, *, factor: float | None = None, name: str = "sae") -> Self:
        """The encoder of another library's sparse autoencoder, which is recognised by its attributes.

        sae     an autoencoder or transcoder of SAELens 6, dictionary_learning or sparsify (`polykern.encoders`)
        factor  the input is multiplied by it first; needed where SAELens's normalisation is
                expected_average_only_in
        name    of the field in the layout of its codes

        A bit is set where the library's own `encode` gives a unit that is not 0; of a gated one, where the gate is
        open. Nothing is copied. Errors: UsageError for an object that is not known, or whose units are not on or
        off; else as the class.
        """
        return cls(**encoder_of(sae, factor), name=name)

    @classmethod
    def of_state(
        cls,
        state: Mapping[str, Tensor],
        *,
        kind: str | None = None,
        k: float | None = None,
        subtract: bool = True,
        ranked: bool = False,
        normalisation: str = "none",
        factor: float = 1.0,
        name: str = "sae",
    ) -> Self:
        """The encoder in a state dict with the names of SAELens.

        state          W_enc (dimensions, units), b_enc (units) or b_gate, W_dec (units, dimensions),
                       b_dec (dimensions), threshold or log_threshold (units)
        kind           None: gated where there is a b_gate, jumprelu where there is a threshold, topk where k is
                       given, else relu
        k              of topk and batchtopk
        subtract       `apply_b_dec_to_input`: whether b_dec is subtracted from the input; transcoders do not
        ranked         `rescale_acts_by_decoder_norm` of topk and batchtopk
        normalisation  `normalize_activations`; expected_average_only_in is a factor that the user has measured
        factor         the input is multiplied by it first
        name           of the field in the layout of its codes

        Nothing is copied. Errors: UsageError naming a tensor that is missing; else as the class.
        """
        if "threshold" not in state and "log_threshold" in state:
            state = {**state, "threshold": state["log_threshold"].exp()}
        if kind is None:
            found = ("gated", "b_gate" in state), ("jumprelu", "threshold" in state), ("topk", k is not None)
            kind = next((word for word, there in found if there), "relu")
        _require_one_of("kind of sparse autoencoder", kind, KINDS)
        wanted = ["W_enc", "b_gate" if kind == "gated" else "b_enc"]
        wanted += ["b_dec"] * subtract + ["W_dec"] * ranked + ["threshold"] * (kind == "jumprelu")
        if missing := [name for name in wanted if name not in state]:
            raise UsageError(
                f"a state dict of a {kind} autoencoder without {', '.join(missing)}",
                why=f"it has {', '.join(state)}",
            )
        return cls(
            state["W_enc"], state[wanted[1]], kind,
            centre=state["b_dec"] if subtract else None,
            threshold=state["threshold"] if kind == "jumprelu" else None,
            k=k, rank=state["W_dec"].norm(dim=-1) if ranked else None,
            normalisation=normalisation, factor=factor, name=name,
            decoder=state.get("W_dec"), offset=state.get("b_dec"),
        )  # fmt: skip

    @classmethod
    def of_file(cls, path: Path | str, **how: Any) -> Self:
        """The encoder in a safetensors file with the names of SAELens, in float32; arguments as of `of_state`.

        Errors: UsageError where there is no such file; CorruptError where it is not safetensors.
        """
        from safetensors.torch import load_file

        if not Path(path).is_file():
            raise UsageError(f"no file {path}")
        try:
            state = {name: t.float() for name, t in load_file(path).items()}
        except Exception as reason:
            raise CorruptError(f"{path} is no safetensors file", why=str(reason).splitlines()[0]) from None
        return cls.of_state(state, **how)

    @property
    def layout(self) -> Layout:
        """One field of its kind, a bit a unit."""
        return Layout.of([Field(self.name, 0, self.kind, (self.weight.shape[1],), (0.0,), 0)])

    def to(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> "SparseAutoencoder":
        """The same autoencoder in another dtype and on another device."""
        names = ("weight", "bias", "centre", "threshold", "rank", "decoder", "offset")
        moved = {n: t.to(device, dtype) for n in names if (t := getattr(self, n)) is not None}
        return replace(self, **moved)

    def pre_activations(self, x: Tensor) -> Tensor:
        """float (n, units): z of activation vectors x, float (n, dimensions), in the autoencoder's dtype.

        TF32 is off. Errors: UsageError for another number of dimensions; CorruptError where z is NaN.
        """
        with ieee(), torch.no_grad():
            z = self.received(x) @ self.weight + self.bias
        if bool((bad := z.isnan().any(1)).any()):
            raise CorruptError(
                f"the pre-activations of {self.name} hold NaN, which has no sign",
                why=f"in {int(bad.sum())} of {len(z)} rows, first in number {int(bad.int().argmax())}",
                fix="check the activations; a vector of zeros has no norm to be scaled by",
            )
        return z

    def received(self, x: Tensor) -> Tensor:
        """float (n, dimensions): what the units receive of activation vectors x: y, without `centre`."""
        dimensions = self.weight.shape[0]
        if x.ndim != 2 or x.shape[1] != dimensions:
            raise UsageError(f"the autoencoder reads activations (n, {dimensions}), got {_told(x)}")
        y = self._normalised(x.to(self.weight.device, self.weight.dtype) * self.factor)
        return y if self.centre is None else y - self.centre

    def activations(self, x: Tensor) -> Tensor:
        """float (n, units): what the units give on activation vectors x: z where a unit is active, else 0.

        Where x holds NaN so does its row, without an error: nothing waits for a device. Errors: UsageError for
        another number of dimensions, gated, whose activations are no function of z, and batchtopk, where a row's
        depend on the others.
        """
        if self.kind in ("gated", "batchtopk"):
            trained = "give it as jumprelu, with its trained threshold"
            raise UsageError(
                f"a {self.kind} autoencoder has no activations of single rows from these tensors",
                fix=trained if self.kind == "batchtopk" else "take its codes",
            )
        with ieee(), torch.no_grad():
            z = self.received(x) @ self.weight + self.bias
            if self.threshold is not None and self.kind == "jumprelu":
                return torch.where(z <= self.threshold.clamp(min=0), 0.0, z)
            if self.kind == "topk":
                assert self.k is not None
                order = (z if self.rank is None else z * self.rank).relu()
                z = torch.where(_largest(order, int(self.k)) | z.isnan(), z, 0.0)
            return z.relu()

    def rebuilt(self, x: Tensor, active: Tensor | None = None, *, undo: bool = True) -> Tensor:
        """float (n, outputs): activation vectors x as the units rebuild them.

        active  float (n, units)   the units' activations; None: those of x
        undo    whether the normalisation of the input is undone; not of transcoders, which rebuild something else

        Errors: UsageError without a decoder; else as `activations`.
        """
        if self.decoder is None:
            raise UsageError("an autoencoder without a decoder rebuilds nothing", fix="give W_dec")
        with ieee(), torch.no_grad():
            made = (self.activations(x) if active is None else active) @ self.decoder
            made = made if self.offset is None else made + self.offset
            return self._denormalised(made, x.to(made.device, made.dtype)) if undo else made

    def codes(self, x: Tensor, *, batch: int = 4096) -> Codes:
        """The codes of activation vectors.

        x      float (n, dimensions), any dtype and device: it is copied to the autoencoder's
        batch  rows at a time; batchtopk takes all rows at once, whatever it is

        Exact for the pre-activations in the autoencoder's dtype: they are compared with the thresholds themselves,
        not with a difference that was rounded. Errors as `pre_activations`.
        """
        parts = x.split(max(1, len(x)) if self.kind == "batchtopk" else batch)
        return Codes(torch.cat([self._words(self.pre_activations(part)) for part in parts]), self.layout)

    def _words(self, z: Tensor) -> Tensor:
        """int32 (n, words): the packed bits of pre-activations."""
        if self.kind == "jumprelu":
            assert self.threshold is not None
            return pack.signs(z, self.threshold.clamp(min=0)[None])[0]
        if self.kind in ("topk", "batchtopk"):
            assert self.k is not None
            order = (z if self.rank is None else z * self.rank).relu()
            flat = order if self.kind == "topk" else order.reshape(1, -1)
            most = int(self.k) if self.kind == "topk" else int(self.k * len(z))
            z = (_largest(flat, min(most, flat.shape[1])).view_as(z) & (z > 0)).to(z.dtype)
        return pack.signs(z)[0]

    def _normalised(self, x: Tensor) -> Tensor:
        if self.normalisation == "constant_norm_rescale":
            scaled: Tensor = x * (x.shape[1] ** 0.5 / x.norm(dim=1, keepdim=True))
            return scaled
        if self.normalisation == "layer_norm":
            centred = x - x.mean(1, keepdim=True)
            return centred / (centred.std(1, keepdim=True) + EPSILON)
        return x

    def _denormalised(self, made: Tensor, x: Tensor) -> Tensor:
        """What was rebuilt, in the scale of the activation vectors it was rebuilt from."""
        x = x * self.factor
        if self.normalisation == "constant_norm_rescale":
            made = made * (x.norm(dim=1, keepdim=True) / x.shape[1] ** 0.5)
        if self.normalisation == "layer_norm":
            made = made * (x.std(1, keepdim=True) + EPSILON) + x.mean(1, keepdim=True)
        return made / self.factor

    def _require_k(self, units: int) -> None:
        whole = self.kind == "topk"
        if self.k is None or not 0 < self.k <= units or (whole and self.k != int(self.k)):
            what = "a whole number" if whole else "a number"
            raise UsageError(f"k of a {self.kind} autoencoder is {what} from 1 to its {units} units, got {self.k}")


def _largest(values: Tensor, k: int) -> Tensor:
    """bool (n, m): whether a value is among the k largest of its row; of equal ones the first are."""
    if k == 0:
        return torch.zeros_like(values, dtype=torch.bool)
    last = values.topk(k, dim=1).values[:, -1:]
    above, equal = values > last, values == last
    left = k - above.sum(1, keepdim=True)
    return above | (equal & (equal.cumsum(1) <= left))


def _require_one_of(what: str, word: str, words: tuple[str, ...]) -> None:
    if word not in words:
        raise UsageError(f"there is no {what} {word!r}", fix=f"choose one of {', '.join(words)}")


def _told(x: Tensor) -> str:
    return f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)}"
