"""Pages that a build writes beside those that a person wrote."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

import plain


def heading(text: str, line: str = "=") -> list[str]:
    """A title in reStructuredText; "-" underlines one below it."""
    return [text, line * len(text)]


def summary(module: ModuleType) -> list[str]:
    """What a module says of itself, in reStructuredText."""
    return plain.restructured((inspect.getdoc(module) or "").split("\n"))


def put(folder: Path, pages: Mapping[str, Sequence[str]]) -> None:
    """Make a folder hold exactly these pages; what does not change keeps its time, so that a build stays short.

    folder  of pages in reStructuredText, made where it is missing
    pages   name without ending -> lines
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stale in {p.name for p in folder.iterdir()} - {f"{name}.rst" for name in pages}:
        (folder / stale).unlink()
    for name, lines in pages.items():
        path, text = folder / f"{name}.rst", "\n".join(lines) + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
