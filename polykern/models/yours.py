"""Networks of the user's own: a function of a package or of a file that gives one."""

import hashlib
import importlib
import importlib.util
import sys
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from polykern.errors import PolykernError, UsageError
from polykern.models.generated import Drawn, Noise
from polykern.models.subject import Sample, Subject
from polykern.names import registered
from polykern.wrappers import network


def from_function(word: str, seed: int = 0) -> Subject:
    """The subject that a user's function gives.

    word  "package.module:function", "path/to/file.py:function" or a registered name; the function takes no
          argument and gives a Subject, or a pair (nn.Module, sample) with sample = its inputs for one item, or an
          nn.Module whose first layer is an nn.Linear
    seed  of the generated examples: standard normal noise of the sample's shape, or draws of its whole numbers

    Raises UsageError: no such module, file or function, an error inside it, or another kind of result.
    """
    return _subject(word, called(word), seed)


def called(word: str) -> Any:
    """What a user's function of no arguments gives.

    word  "package.module:function" or "path/to/file.py:function"; or a name that a package registers

    Raises UsageError: no such module, file or function, or an error inside it; polykern's own errors as they are.
    """
    place, _, attribute = (word if ":" in word else registered().get(word, word)).rpartition(":")
    module = _file(Path(place)) if place.endswith(".py") else _module(place)
    function = getattr(module, attribute, None)
    if not callable(function):
        close = get_close_matches(attribute, [name for name in dir(module) if name != attribute], 1)
        hint = f"did you mean {close[0]!r}?" if close else ""
        raise UsageError(f"{place} has no function {attribute!r}", fix=hint)
    try:
        return function()
    except PolykernError:
        raise
    except Exception as error:
        raise UsageError(f"{word} failed", why=f"{type(error).__name__}: {error}") from error


def _subject(word: str, given: Any, seed: int) -> Subject:
    if isinstance(given, Subject):
        return given
    model, sample = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
    try:
        model = network(model)
    except UsageError as error:
        raise UsageError(
            f"{word} gave {type(model).__name__}",
            why=error.fix,
            fix="return an nn.Module, a pair (nn.Module, sample) or a polykern.models.Subject",
        ) from error
    sample = _guessed(word, model) if sample is None else sample
    first = _first(word, sample)
    if first.is_floating_point():
        return Subject(
            model, word, f"given by {word}; its examples are noise", sample, Noise(tuple(first.shape[1:]), seed)
        )
    told = f"given by {word}; its examples are draws of its sample's numbers"
    return Subject(model, word, told, sample, Drawn(first[0], seed))


def _first(word: str, sample: Sample) -> Tensor:
    values = list(sample.values()) if isinstance(sample, dict) else sample
    first = values if isinstance(values, Tensor) else (values[0] if len(values) else None)
    if not isinstance(first, Tensor) or first.ndim < 2 or first.shape[0] != 1:
        raise UsageError(
            f"the sample that {word} gave is not the inputs of one item",
            fix="give a tensor of shape (1, ...), or a tuple or dict of such",
        )
    return first


def _guessed(word: str, model: nn.Module) -> Tensor:
    leaf = next((m for m in model.modules() if next(m.parameters(recurse=False), None) is not None), None)
    if isinstance(leaf, nn.Linear):
        return torch.zeros(1, leaf.in_features)
    raise UsageError(
        f"the shape of the inputs of {word} is not known",
        fix="return a pair (model, sample), sample = the inputs of one item, shape (1, ...)",
    )


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"no module {name!r} can be imported",
            why=str(error),
            fix="install it, or give the file: path/to/file.py:function",
        ) from error
    except Exception as error:
        raise UsageError(f"importing {name} failed", why=f"{type(error).__name__}: {error}") from error


def _file(path: Path) -> ModuleType:
    path = path.expanduser().resolve()
    if not path.is_file():
        raise UsageError(f"no file {path}")
    name = f"_polykern_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UsageError(f"{path} failed", why=f"{type(error).__name__}: {error}") from error
    return module
