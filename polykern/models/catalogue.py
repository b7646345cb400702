"""Which network a word stands for: a name of the catalogue, a function of a package or of a file."""

import importlib
from difflib import get_close_matches

from polykern.errors import UsageError
from polykern.models.subject import Subject
from polykern.models.yours import from_function

KNOWN: dict[str, str] = {
    "digits": "handwritten digits, trained at first use",
}
_MODULES = {"digits": "polykern.models.digits:subject"}


def load(name: str = "digits", *, seed: int = 0) -> Subject:
    """The network a word stands for, ready to be looked at, with its examples.

    name  a name in KNOWN, or "package.module:function", or "path/to/file.py:function", where the function takes
          no argument and gives an nn.Module, a pair (nn.Module, sample) or a Subject
    seed  of everything random: initial weights where none are trained, generated examples

    Raises UsageError for a word that stands for nothing, MissingExtra naming the pip line when a package is
    missing, CorruptError when the weights hold NaN or infinity.
    """
    if name in _MODULES:
        module, _, function = _MODULES[name].partition(":")
        subject: Subject = getattr(importlib.import_module(module), function)(seed)
        return subject
    if name.find(":") > 0:
        return from_function(name, seed)
    close = get_close_matches(name, KNOWN, 1, 0.4)
    raise UsageError(
        f"no model is called {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""),
        why=f"known: {', '.join(KNOWN)}",
        fix="or give your own: package.module:function or path/to/file.py:function",
    )
