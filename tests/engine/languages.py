"""Small language models and a tokenizer, made on the spot: nothing is downloaded, nothing is trained."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from polykern.models import _transformers
from polykern.models.language import Language
from polykern.models.vocabulary import Vocabulary

END = "<|endoftext|>"
TEXT = "The other man sat in the thin rain. An err in the inner theatre, then another.\n"


def tokenizer(*, around: bool = False) -> Any:
    """A byte-level tokenizer with a few pairs; `around`: with [CLS] and [SEP] around a text."""
    _transformers.library()
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("a", "n"), ("i", "n"), ("e", "r")]
    words = [*alphabet, *(a + b for a, b in pairs)]
    made = Tokenizer(models.BPE({w: k for k, w in enumerate(words)}, pairs))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.add_special_tokens([AddedToken(w, special=True) for w in (END, "[CLS]", "[SEP]")])
    if around:
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[(w, made.token_to_id(w)) for w in ("[CLS]", "[SEP]")]
        )
    return made


def vocabulary(*, around: bool = False) -> Vocabulary:
    """The tokenizer as a capture sees it."""
    return Vocabulary(tokenizer(around=around))


def gpt2(seed: int = 0, blocks: int = 2, positions: int = 64) -> nn.Module:
    """A random GPT-2 of 32 units and `blocks` blocks of 128, in float64: no sum is near zero by rounding."""
    transformers = _transformers.library()
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        vocab_size=300,
        n_positions=positions,
        n_embd=32,
        n_layer=blocks,
        n_head=4,
        bos_token_id=262,
        eos_token_id=262,
    )
    model: nn.Module = transformers.GPT2Model(config).double().eval()
    return model


def llama(seed: int = 0) -> nn.Module:
    """A random Llama of 32 units and two gated blocks of 64, in float64."""
    transformers = _transformers.library()
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, bos_token_id=262, eos_token_id=262,
    )  # fmt: skip
    model: nn.Module = transformers.LlamaModel(config).double().eval()
    return model


def bert(seed: int = 0) -> nn.Module:
    """A random encoder of 32 units and two blocks of 48, in float64."""
    transformers = _transformers.library()
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64,
    )  # fmt: skip
    model: nn.Module = transformers.BertModel(config, add_pooling_layer=False).double().eval()
    return model


def small(kind: str = "gpt2", **choices: Any) -> Language:
    """A small language model by name: gpt2, llama or bert."""
    make = {"gpt2": gpt2, "llama": llama, "bert": bert}[kind]
    return Language(make(**choices), f"small-{kind}", "random weights", vocabulary(around=kind == "bert"), 64)


GIVEN = """
from tests.engine.languages import gpt2, llama, small, tokenizer

def pair():
    return gpt2(), tokenizer()

def whole():
    return small("llama")

def broken():
    model = gpt2()
    model.h[1].mlp.c_fc.weight.data[:] = 1e300
    model.h[1].mlp.c_fc.bias.data[:] = 1e308
    return model, tokenizer()
"""


def documents(place: Path) -> Path:
    """A folder below `place` with documents of many lengths, one of them empty."""
    folder = place / "corpus"
    folder.mkdir()
    for k in range(7):
        (folder / f"{k}.txt").write_text(TEXT[k : k + 11 * k])
    return folder


def files(folder: Path) -> dict[str, str]:
    """The sha256 of every file of a store but its lock; short, so that a comparison that fails is told at once."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.suffix in (".json", ".safetensors")
    }
