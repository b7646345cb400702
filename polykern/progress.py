"""How far a long piece of work is: what a caller hears of it."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]  # stage, done, total


def silent(stage: str, done: int, total: int) -> None:
    """For a caller who does not want to know."""
