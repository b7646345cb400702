"""The one door to transformers and its tokenizers."""

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from polykern.errors import CorruptError, MissingExtra
from polykern.models import _torchvision

Encode = Any  # a tokenizers.Tokenizer


def library() -> ModuleType:
    """The module transformers; raises MissingExtra when it is not installed.

    transformers imports torchvision where that is installed, so it has to be imported first through its own door.
    """
    if importlib.util.find_spec("transformers") is None:
        raise MissingExtra("the package transformers is not installed", "text")
    if importlib.util.find_spec("torchvision") is not None:
        _torchvision.library()
    return importlib.import_module("transformers")


def tokenizer(path: Path) -> Encode:
    """The tokenizer of a tokenizer.json, without padding and truncation; raises CorruptError for another file."""
    library()
    from tokenizers import Tokenizer

    try:
        encode = Tokenizer.from_file(str(path))
    except Exception as error:
        raise CorruptError(f"{path} holds no tokenizer", why=str(error)) from error
    encode.no_padding()
    encode.no_truncation()
    return encode


def fill(model: nn.Module, path: Path, ignored: tuple[str, ...], prefix: str = "") -> nn.Module:
    """Give a model the weights of a safetensors file.

    model    gets them in place, in eval mode and without gradients
    path     the file
    ignored  ends or beginnings of names in the file that the model does not have
    prefix   removed from the names in the file

    Raises CorruptError when the file is damaged or belongs to another model.
    """
    from safetensors.torch import load_file

    try:
        given: dict[str, Tensor] = load_file(path)
        kept = {
            name.removeprefix(prefix): value
            for name, value in given.items()
            if not name.endswith(ignored) and not name.startswith(ignored)
        }
        model.load_state_dict(kept)
    except Exception as error:
        raise CorruptError(
            f"{path} does not hold the weights of {type(model).__name__}", why=str(error).splitlines()[0]
        ) from error
    return model.requires_grad_(False).eval()
