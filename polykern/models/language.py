"""Language models: a network that reads tokens, with the tokenizer that makes them.

Any causal model or encoder of transformers, from a folder or from Hugging Face's cache; only safetensors are read
and no code that comes with a model is run.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polykern.errors import CorruptError, PolykernError, UsageError
from polykern.models import _transformers, gpt2, minilm, yours
from polykern.models._cache import DOWNLOAD
from polykern.models._packages import files_of
from polykern.models.subject import digest, require_finite
from polykern.models.unnormed import undone
from polykern.models.vocabulary import Vocabulary
from polykern.names import registered
from polykern.wrappers import moved, network

USUAL = 1024  # tokens of a sequence, where the model can read as many
_OPTIONAL = ("pooler.",)


@dataclass(frozen=True, eq=False)
class Language:
    """A network over tokens.

    model       nn.Module that takes input_ids (TransformerLens's: input) int64 (n, tokens) and, with padding,
                attention_mask; put into eval mode without gradients in place
    name        what it is called in results
    note        one sentence a person reads
    vocabulary  its tokenizer
    longest     tokens it can read at once; None: as many as the tokenizer says, else 1024
    causal      whether no token sees those behind it; None: tried out
    weights     sha256 of the state dict

    Errors: CorruptError naming the first parameter or buffer that holds NaN or infinity, masks of -infinity aside.
    """

    model: nn.Module
    name: str
    note: str
    vocabulary: Vocabulary
    longest: int | None = None
    causal: bool | None = None
    weights: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", network(self.model))
        self.model.eval().requires_grad_(False)
        require_finite(self.name, self.model)
        limits = [n for n in (self.longest, self.vocabulary.longest) if n]
        object.__setattr__(self, "longest", min(limits) if limits else USUAL)
        if self.causal is None:
            object.__setattr__(self, "causal", is_causal(self.model))
        object.__setattr__(self, "weights", digest(self.model.state_dict()))

    @property
    def length(self) -> int:
        """Tokens of a sequence by default: 1024, or fewer where the model cannot read as many."""
        return min(USUAL, self.longest or USUAL)

    def inputs(self, tokens: Tensor, lengths: Tensor | None = None) -> dict[str, Any]:
        """What the model is called with.

        tokens   int64 (n, t)
        lengths  int64 (n)  tokens of each sequence; what stands behind them is padding. None: there is none
        """
        taken: dict[str, Any] = {_tokens_of(self.model): tokens}
        if lengths is not None:
            taken["attention_mask"] = (torch.arange(tokens.shape[1]) < lengths[:, None]).long()
        if "use_cache" in signature(self.model.forward).parameters:
            taken["use_cache"] = False
        return taken


def language(word: str, *, dtype: torch.dtype = torch.float32) -> Language:
    """The language model that a word stands for.

    word   minilm, gpt2, smollm2; a folder with config.json, *.safetensors and a tokenizer; a name on Hugging Face's
           hub that its cache holds (fetched only with POLYKERN_DOWNLOAD=1 in the environment); or
           package.module:function, path/to/file.py:function or the name of a plug-in, where the function gives a
           Language or a pair (nn.Module, tokenizer)
    dtype  of the weights

    Raises UsageError when nothing of that name can be loaded, MissingExtra naming the pip line, CorruptError for
    damaged or incomplete weights.
    """
    if word == "smollm2":
        from polykern.models.smollm2 import language as small

        return small(dtype)
    if word == "minilm":
        folder = files_of(minilm.PACKAGE, "model/model.safetensors", extra="text")[0].parent
        return pretrained(str(folder), "minilm", minilm.NOTE, dtype=dtype)
    if word == "gpt2":
        found = gpt2.cached()
        if found is None:
            raise _not_there("gpt2")
        return pretrained(str(found), "gpt2", gpt2.TRAINED, dtype=dtype)
    if not Path(word).is_dir() and (word.find(":") > 0 or word in registered()):
        return given(word, dtype)
    name = Path(word).resolve().name if Path(word).is_dir() else word
    return pretrained(word, name, f"a model of transformers, {name}", dtype=dtype)


def pretrained(place: str, name: str, note: str, *, dtype: torch.dtype = torch.float32) -> Language:
    """A model of transformers without its head, with its tokenizer.

    place  a folder, or a name on the hub
    name   what it is called in results
    note   one sentence a person reads
    dtype  of the weights

    LayerNorms that a checkpoint keeps though it was trained without are undone (`polykern.models.unnormed`).
    Raises as `language`.
    """
    transformers = _transformers.library()
    local = Path(place).is_dir() or os.environ.get(DOWNLOAD) != "1"
    with _quiet(transformers), _explained(place):
        config = transformers.AutoConfig.from_pretrained(place, local_files_only=local, trust_remote_code=False)
        if config.is_encoder_decoder:
            raise UsageError(
                f"{place} reads two texts, one to encode and one to decode", fix="give an encoder or a causal model"
            )
        with torch.random.fork_rng(devices=[]):
            model, report = transformers.AutoModel.from_pretrained(
                place, config=config, local_files_only=local, trust_remote_code=False, use_safetensors=True,
                output_loading_info=True, dtype=dtype,
            )  # fmt: skip
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            place, local_files_only=local, trust_remote_code=False, use_fast=True
        )
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(_OPTIONAL))
    if missing:
        raise CorruptError(
            f"{place} does not hold all weights of {type(model).__name__}",
            why=f"{missing[0]} and {len(missing) - 1} more are missing",
        )
    if undone(model):
        note = f"{note}, trained to do without LayerNorm"
    longest = getattr(config, "max_position_embeddings", None)
    return Language(model, name, note, Vocabulary(tokenizer), longest)


def given(word: str, dtype: torch.dtype = torch.float32) -> Language:
    """The language model that a user's function gives; see `language`."""
    made = yours.called(word)
    if isinstance(made, Language):
        return made
    if not (isinstance(made, tuple) and len(made) == 2):
        raise UsageError(
            f"{word} gave {type(made).__name__}", fix="return a Language, or a pair (nn.Module, tokenizer)"
        )
    model, tokenizer = network(made[0]), made[1]
    longest = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    longest = getattr(getattr(model, "cfg", None), "n_ctx", longest)  # TransformerLens
    return Language(moved(model, None, dtype), word, f"given by {word}", Vocabulary(tokenizer), longest)


def is_causal(model: nn.Module) -> bool:
    """Whether the first tokens' outputs do not depend on the last token: tried out, with four tokens."""
    device = next(model.parameters()).device
    texts = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5]], device=device)
    with torch.no_grad():
        out: Any = model(**{_tokens_of(model): texts})
    hidden = out if isinstance(out, Tensor) else out[0]
    return bool(torch.equal(hidden[0, :3], hidden[1, :3]))


def _tokens_of(model: nn.Module) -> str:
    """The argument of a model that tokens go to: input_ids, of TransformerLens's models input."""
    takes = signature(model.forward).parameters
    return "input" if "input" in takes and "input_ids" not in takes else "input_ids"


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """No bars and no advice on stderr while a model is loaded."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def _explained(place: str) -> Iterator[None]:
    try:
        yield
    except PolykernError:
        raise
    except Exception as error:
        if not Path(place).is_dir() and isinstance(error, OSError):
            raise _not_there(place) from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"{place} cannot be loaded as a language model", why=reason) from error


def _not_there(name: str) -> UsageError:
    return UsageError(
        f"no language model {name!r}",
        why="there is no such folder, and Hugging Face's cache does not hold it",
        fix=f"{DOWNLOAD}=1 in the environment fetches it; minilm and smollm2 install as packages: polykern[text]",
    )
