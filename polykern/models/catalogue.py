"""Which network a word stands for: a name of the catalogue, a function of a package or of a file."""

import importlib
from difflib import get_close_matches

from polykern.errors import UsageError
from polykern.models.subject import Subject
from polykern.models.yours import from_function

KNOWN: dict[str, str] = {
    "digits": "a small ReLU network for handwritten digits, trained at first use",
    "efficientnet-lite0": "a real ImageNet classifier, ReLU6 throughout (extra: vision)",
    "googlenet": "InceptionV1, trained if torch's cache holds its weights, else googlenet-random (extra: vision)",
    "googlenet-random": "InceptionV1 with random weights and calibrated BatchNorm (extra: vision)",
    "googlenet-initial": "InceptionV1 as initialised, a degenerate control (extra: vision)",
    "gpt2": "GPT-2 small, trained if Hugging Face's cache holds it, else random (extra: text)",
    "gpt2-mlp": "LayerNorm and MLP of one GPT-2 block, on residual vectors (extra: text)",
    "minilm": "a real sentence encoder (extra: text)",
    "minilm-mlp": "the MLP of one block of the sentence encoder, on residual vectors (extra: text)",
}
_MAKERS = {
    "digits": "digits:subject",
    "efficientnet-lite0": "efficientnet_lite0:subject",
    "googlenet": "googlenet:subject",
    "googlenet-random": "googlenet:calibrated_subject",
    "googlenet-initial": "googlenet:initial_subject",
    "gpt2": "gpt2:subject",
    "gpt2-mlp": "gpt2:mlp_subject",
    "minilm": "minilm:subject",
    "minilm-mlp": "minilm:mlp_subject",
}


def load(name: str = "digits", *, seed: int = 0) -> Subject:
    """The network a word stands for, ready to be looked at, with its examples.

    name  a name in KNOWN, or "package.module:function", or "path/to/file.py:function", where the function takes
          no argument and gives an nn.Module, a pair (nn.Module, sample) or a Subject
    seed  of everything random: initial weights where none are trained, generated examples

    Raises UsageError for a word that stands for nothing, MissingExtra naming the pip line when a package is
    missing, CorruptError when the weights hold NaN or infinity.
    """
    if name in _MAKERS:
        module, _, function = _MAKERS[name].partition(":")
        make = getattr(importlib.import_module(f"polykern.models.{module}"), function)
        subject: Subject = make(seed)
        return subject
    if name.find(":") > 0:
        return from_function(name, seed)
    close = get_close_matches(name, KNOWN, 1, 0.4)
    raise UsageError(
        f"no model is called {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""),
        why=f"known: {', '.join(KNOWN)}",
        fix="or give your own: package.module:function or path/to/file.py:function",
    )
