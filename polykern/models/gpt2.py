"""GPT-2 small: 12 blocks, 768 wide, 3072 units each; trained where Hugging Face's cache holds it, random otherwise.

Radford et al. 2019. Its units are smooth (GELU), so codes are the signs of their pre-activations.
"""

import os
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn

from polykern.models import _transformers
from polykern.models._cache import DOWNLOAD
from polykern.models.generated import RandomTokens
from polykern.models.subject import Subject
from polykern.models.text import LAST_OF_EACH, TOKENS, Sentences, Texts, vectors
from polykern.seeds import reproducible

REPOSITORIES = ("openai-community/gpt2", "gpt2")
FILES = ("config.json", "model.safetensors", "tokenizer.json")
BLOCK = 5  # of 12: the middle
RANDOM = "random weights in GPT-2's shape: NOT a trained network"
TRAINED = "GPT-2 small, trained on WebText"


def subject(seed: int = 0) -> Subject:
    """GPT-2 without its vocabulary head: token ids int64 (n, 16) -> hidden vectors.

    seed  of random weights and random tokens

    Trained weights are taken from Hugging Face's cache; they are fetched only with POLYKERN_DOWNLOAD=1 in the
    environment. Examples are sentences for the trained network and random tokens for the random one. Raises
    MissingExtra when transformers is not installed, CorruptError for damaged weights.
    """
    model, texts, note = _network(seed)
    name = "gpt2" if isinstance(texts, Sentences) else "gpt2-random"
    return Subject(model, name, note, texts.at(0).input[None], texts, default_start=f"h.{BLOCK}.mlp")


def mlp_subject(seed: int = 0) -> Subject:
    """LayerNorm and MLP of GPT-2's block 5 alone: residual vectors (n, 768) -> what is added to them (n, 768).

    seed  as in `subject`

    Examples are the residual vectors of the inner tokens of 24 texts.
    """
    model, texts, note = _network(seed)
    examples = vectors(model, f"h.{BLOCK}.ln_2", texts)
    name = "gpt2-mlp" if isinstance(texts, Sentences) else "gpt2-mlp-random"
    return Subject(
        mlp(model.get_submodule(f"h.{BLOCK}")),
        name,
        f"the MLP of block {BLOCK}; {note}",
        examples.at(0).input[None],
        examples,
        default_examples=LAST_OF_EACH,
    )


def mlp(block: nn.Module) -> nn.Sequential:
    """LayerNorm, two linear layers and the GELU between them, with the weights of a transformers GPT-2 block."""
    norm, up, down = (block.get_submodule(name) for name in ("ln_2", "mlp.c_fc", "mlp.c_proj"))
    wide, narrow = _tensor(up, "bias").numel(), _tensor(down, "bias").numel()
    layers: list[tuple[str, nn.Module]] = [
        ("ln_2", nn.LayerNorm(narrow, eps=float(norm.eps))),  # type: ignore[arg-type]
        ("c_fc", nn.Linear(narrow, wide)),
        ("act", nn.GELU(approximate="tanh")),
        ("c_proj", nn.Linear(wide, narrow)),
    ]
    model = nn.Sequential(OrderedDict(layers))
    state = {
        "ln_2.weight": _tensor(norm, "weight"),
        "ln_2.bias": _tensor(norm, "bias"),
        "c_fc.weight": _tensor(up, "weight").T,  # transformers keeps it as [in, out]
        "c_fc.bias": _tensor(up, "bias"),
        "c_proj.weight": _tensor(down, "weight").T,
        "c_proj.bias": _tensor(down, "bias"),
    }
    model.load_state_dict(state)
    return model.requires_grad_(False).eval()


def cached() -> Path | None:
    """The trained network's folder in Hugging Face's cache, or None: not there, and not to be fetched."""
    _transformers.library()
    import huggingface_hub

    for repository in REPOSITORIES:
        found = [huggingface_hub.try_to_load_from_cache(repository, name) for name in FILES]
        if all(isinstance(path, str) for path in found):
            return Path(str(found[0])).parent
    if os.environ.get(DOWNLOAD) == "1":
        paths = [huggingface_hub.hf_hub_download(REPOSITORIES[0], name) for name in FILES]
        return Path(paths[0]).parent
    return None


def _network(seed: int) -> tuple[nn.Module, Texts, str]:
    transformers = _transformers.library()
    folder = cached()
    if folder is None:
        config = transformers.GPT2Config(attn_implementation="eager", use_cache=False)
        with reproducible(seed):
            model: nn.Module = transformers.GPT2Model(config).requires_grad_(False).eval()
        return model, RandomTokens(config.vocab_size, seed, TOKENS), RANDOM
    config = transformers.GPT2Config.from_json_file(str(folder / "config.json"))
    config.use_cache = False
    config._attn_implementation = "eager"
    with torch.random.fork_rng(devices=[]):
        model = transformers.GPT2Model(config)
    ignored = (".attn.bias", ".attn.masked_bias", "lm_head.weight")
    _transformers.fill(model, folder / "model.safetensors", ignored, "transformer.")
    return model, Sentences(_transformers.tokenizer(folder / "tokenizer.json")), TRAINED


def _tensor(module: nn.Module, name: str) -> Tensor:
    return module.get_parameter(name).detach()
