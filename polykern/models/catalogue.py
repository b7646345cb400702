"""Which network a word stands for: a name of the catalogue or of a plug-in, a function of a package or a file."""

import importlib
from difflib import get_close_matches

from polykern.errors import UsageError
from polykern.models.subject import Subject
from polykern.models.yours import from_function
from polykern.names import KNOWN as KNOWN
from polykern.names import registered

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

    name  a name in KNOWN, one that a package registers (`polykern.names`), "package.module:function", or
          "path/to/file.py:function", where the function takes no argument and gives an nn.Module, a pair
          (nn.Module, sample) or a Subject
    seed  of everything random: initial weights where none are trained, generated examples

    Raises UsageError for a word that stands for nothing, MissingExtra naming the pip line when a package is
    missing, CorruptError when the weights hold NaN or infinity.
    """
    if name in _MAKERS:
        module, _, function = _MAKERS[name].partition(":")
        make = getattr(importlib.import_module(f"polykern.models.{module}"), function)
        subject: Subject = make(seed)
        return subject
    others = {} if name.find(":") > 0 else registered()
    if name.find(":") > 0 or name in others:
        return from_function(name, seed)
    known = [*KNOWN, *others]
    close = get_close_matches(name, known, 1, 0.4)
    raise UsageError(
        f"no model is called {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""),
        why=f"known: {', '.join(known)}",
        fix="or give your own: package.module:function or path/to/file.py:function",
    )
