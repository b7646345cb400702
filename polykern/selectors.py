"""Selectors: which nonlinearities of a model make its code.

A selector is a glob over module names (`inception5*`, `transformer.h.3.mlp`: a module stands for all
nonlinearities inside it), a TransformerLens name (`blocks.3.mlp.hook_pre`, `blocks.*.mlp.hook_pre`), a list of
those, or a predicate over `Field`.
"""

import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches

from polykern.errors import UsageError
from polykern.layout import Field

Select = str | Sequence[str] | Callable[[Field], bool]

# the repeated block of a transformer and its number: transformer.h.3., model.layers.3., encoder.layer.3., ...
BLOCK = re.compile(r"(?:^|\.)(?:h|layers?|blocks?|encoder_layer)[._](\d+)(?:\.(.*))?$")


def matches(field: Field, select: Select) -> bool:
    """Whether a selector chooses the field."""
    if callable(select):
        return select(field)
    return any(_matches(field, glob) for glob in _globs(select))


def require_used(fields: Iterable[Field], select: Select) -> None:
    """Raise `UsageError` with the nearest names when a glob chooses none of the fields."""
    known = list(fields)
    if callable(select):
        if known and not any(select(field) for field in known):
            raise UsageError("the predicate selects no nonlinearity", fix=_known(known))
        return
    for glob in _globs(select):
        if any(_matches(field, glob) for field in known):
            continue
        names = sorted({name for field in known for name in (field.name, lens_name(field)) if name})
        near = get_close_matches(glob, names, n=3, cutoff=0.4)
        raise UsageError(
            f"no nonlinearity is called {glob!r}",
            fix=f"nearest names: {', '.join(near)}" if near else _known(known),
        )


def lens_name(field: Field) -> str | None:
    """The field's TransformerLens name `blocks.3.mlp.hook_pre` when it is the MLP of a numbered block."""
    found = BLOCK.search(field.module)
    if found is None or "attn" in (inside := found[2] or "") or "attention" in inside:
        return None
    return f"blocks.{found[1]}.mlp.hook_pre"


def _globs(select: str | Sequence[str]) -> Sequence[str]:
    return [select] if isinstance(select, str) else select


def _matches(field: Field, glob: str) -> bool:
    names = (field.name, field.module, lens_name(field) or field.module)
    return any(fnmatch.fnmatchcase(n, glob) for n in names) or fnmatch.fnmatchcase(field.module, glob + ".*")


def _known(fields: Sequence[Field]) -> str:
    return f"there are {', '.join(f.name for f in fields[:5])}{', ...' if len(fields) > 5 else ''}"
