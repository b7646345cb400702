"""What a shell completes behind an option. Nothing here loads a network, so layers are not among it."""

from collections.abc import Callable

from polykern.errors import PolykernError
from polykern.names import KNOWN, LANGUAGES, registered

ENGINES = ("auto", "tiles", "anchored", "scanline", "float32", "float64")
DEVICES = ("auto", "cpu", "cuda:0")
ARITHMETICS = ("float32", "float16", "bfloat16")


def models(incomplete: str) -> list[tuple[str, str]]:
    """Names of networks that begin so, each with what it is; those of plug-ins too."""
    return _begun(incomplete, KNOWN | LANGUAGES)


def languages(incomplete: str) -> list[tuple[str, str]]:
    """As `models`, of language models alone; a plug-in may be one."""
    return _begun(incomplete, LANGUAGES)


def _begun(incomplete: str, ours: dict[str, str]) -> list[tuple[str, str]]:
    try:
        others = registered()
    except PolykernError:
        others = {}
    return [(name, told) for name, told in (ours | others).items() if name.startswith(incomplete)]


def among(*words: str) -> Callable[[str], list[str]]:
    """A completion by some words."""

    def words_of(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return words_of
