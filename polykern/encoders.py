"""Encoders of other libraries' sparse autoencoders, recognised by their attributes; none of them is imported.

SAELens              W_enc and a cfg with an architecture: standard, transcoder, gated, jumprelu, topk, batchtopk
dictionary_learning  dict_size: AutoEncoder, AutoEncoderNew, GatedAutoEncoder, JumpReluAutoEncoder,
                     AutoEncoderTopK, BatchTopKSAE and its Matryoshka
sparsify             num_latents: SparseCoder
"""

from typing import Any

from polykern.errors import UsageError

# SAELens's architecture -> kind of encoder
ARCHITECTURES = {
    "standard": "relu",
    "transcoder": "relu",
    "skip_transcoder": "relu",
    "gated": "gated",
    "jumprelu": "jumprelu",
    "jumprelu_transcoder": "jumprelu",
    "jumprelu_skip_transcoder": "jumprelu",
    "topk": "topk",
    "batchtopk": "batchtopk",
    "matryoshka_batchtopk": "batchtopk",
}
MEASURED = "expected_average_only_in"  # a normalisation by a factor that lies in no tensor
FIX = "give its tensors to SparseAutoencoder(...) or SparseAutoencoder.of_state(...)"


def encoder_of(sae: Any, factor: float | None = None) -> dict[str, Any]:
    """The encoder of a sparse autoencoder, as the arguments of `polykern.autoencoders.SparseAutoencoder`.

    sae     an autoencoder or transcoder of SAELens 6, dictionary_learning or sparsify
    factor  its input is multiplied by it first; needed where SAELens's normalisation is expected_average_only_in

    Nothing is copied. Raises UsageError for an object that is none of these, or whose units are not on or off.
    """
    scaled = {"factor": 1.0 if factor is None else factor}
    if hasattr(sae, "cfg") and hasattr(sae, "W_enc"):
        return _saelens(sae, factor) | scaled
    if hasattr(sae, "num_latents") and hasattr(sae, "encoder"):
        return _sparsify(sae) | scaled
    if hasattr(sae, "dict_size") and hasattr(sae, "activation_dim"):
        return _dictionary(sae) | scaled
    raise UsageError(f"no sparse autoencoder is known that looks like {type(sae).__name__}", fix=FIX)


def _saelens(sae: Any, factor: float | None) -> dict[str, Any]:
    cfg = sae.cfg
    word = getattr(cfg, "architecture", None)
    architecture = str(word() if callable(word) else word)
    if architecture not in ARCHITECTURES:
        raise UsageError(f"the units of a {architecture} autoencoder are not on or off", fix=FIX)
    normalisation = str(cfg.normalize_activations)
    if normalisation == MEASURED:
        if factor is None:
            raise UsageError(
                f"{type(sae).__name__} was trained on inputs times a factor that it does not hold",
                why=f"its normalisation is {MEASURED}",
                fix="give factor, or call its fold_activation_norm_scaling_factor first",
            )
        normalisation = "none"
    kind = ARCHITECTURES[architecture]
    ranked = kind in ("topk", "batchtopk") and getattr(cfg, "rescale_acts_by_decoder_norm", False)
    return {
        "weight": sae.W_enc.detach(),
        "bias": (sae.b_gate if kind == "gated" else sae.b_enc).detach(),
        "kind": kind,
        "centre": sae.b_dec.detach() if cfg.apply_b_dec_to_input else None,
        "threshold": sae.threshold.detach() if kind == "jumprelu" else None,
        "k": cfg.k if kind in ("topk", "batchtopk") else None,
        "rank": sae.W_dec.detach().norm(dim=-1) if ranked else None,
        "normalisation": normalisation,
    }


def _sparsify(sae: Any) -> dict[str, Any]:
    if sae.cfg.activation != "topk":
        raise UsageError(f"{type(sae).__name__} chooses its units by {sae.cfg.activation}, not topk", fix=FIX)
    return _linear(sae.encoder) | {
        "kind": "topk",
        "k": sae.cfg.k,
        "centre": None if sae.cfg.transcode else sae.b_dec.detach(),
    }


def _dictionary(sae: Any) -> dict[str, Any]:
    """By what an autoencoder of dictionary_learning has; its classes have no common description."""
    if not (hasattr(sae, "W_enc") or hasattr(sae, "encoder")):
        raise UsageError(f"{type(sae).__name__} has no encoder", fix=FIX)
    if hasattr(sae, "active_groups") and sae.active_groups < len(sae.group_sizes):
        raise UsageError(f"{type(sae).__name__} has groups that are switched off", fix="make all of them active")
    if hasattr(sae, "W_enc"):
        found = {"weight": sae.W_enc.detach(), "bias": sae.b_enc.detach()}
    else:
        found = {"weight": sae.encoder.weight.detach().T}
        found["bias"] = (sae.gate_bias if hasattr(sae, "gate_bias") else sae.encoder.bias).detach()
    if getattr(sae, "apply_b_dec_to_input", True):  # only JumpReluAutoEncoder can say no
        names = ("b_dec", "decoder_bias", "bias")  # AutoEncoderNew has none of them
        found["centre"] = next((getattr(sae, n).detach() for n in names if hasattr(sae, n)), None)
    if hasattr(sae, "gate_bias"):
        return found | {"kind": "gated"}
    if hasattr(sae, "k") and "Batch" not in type(sae).__name__:
        return found | {"kind": "topk", "k": int(sae.k)}
    if hasattr(sae, "threshold"):  # batches have given BatchTopKSAE one for all units
        return found | {"kind": "jumprelu", "threshold": sae.threshold.detach().expand_as(found["bias"])}
    return found


def _linear(layer: Any) -> dict[str, Any]:
    return {"weight": layer.weight.detach().T, "bias": layer.bias.detach()}
