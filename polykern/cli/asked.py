"""What the options of a plane ask for: a network, three inputs, a window, an engine."""

from typing import TYPE_CHECKING, TypeVar

from polykern.cli import values
from polykern.cli.talk import Talk
from polykern.errors import UsageError

if TYPE_CHECKING:
    from polykern.models import Subject
    from polykern.plane import Window


def require_engine(engine: str, arithmetic: str | None) -> None:
    """Refuse names of engines and arithmetics that there are not, before a network is loaded."""
    from polykern.arithmetic import OPERANDS
    from polykern.maps.choose import ENGINES

    values.one_of("--engine", engine, ENGINES)
    if arithmetic is not None:
        values.one_of("--arithmetic", arithmetic, tuple(OPERANDS))


def window(square: tuple[float, float, float] | None, centre: tuple[float, float] | None) -> "Window | None":
    """The window of --window, checked together with --centre; None where there is no --window."""
    from polykern.plane import Window

    values.finite("--centre", *(centre or ()))
    if square is None:
        return None
    values.finite("--window", *square)
    values.positive("the side of --window", square[2])
    return Window(*square)


Files = TypeVar("Files")
Numbers = TypeVar("Numbers")


def inputs(images: Files | None, indices: Numbers | None) -> Files | Numbers | None:
    """The inputs of --images or of --indices; None where neither names any."""
    if images is not None and indices is not None:
        raise UsageError("--images and --indices are two ways to say the same", fix="leave one of the two out")
    return images or indices


def subject(talk: Talk, model: str, seed: int) -> "Subject":
    """The network, introduced; one that is not trained with a warning."""
    from polykern.models import load

    found = load(model, seed=seed)
    trained = "not a trained network" not in found.note.lower()
    talk.say(f"{found.name}: {found.note}", "info" if trained else "warning")
    return found
