"""An exploration: a plane, its tiles, who waits for them, and the page that shows them."""

import secrets
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from polykern.explore import frames, page
from polykern.explore.evaluation import OVERVIEW, Evaluation, Level
from polykern.explore.pyramid import Pyramid, Tile
from polykern.explore.scheduler import Scheduler
from polykern.maps.compute import Recipe

CACHE = 256 << 20  # bytes of finished tiles; a tile is some 10 to 100 KiB


class Exploration:
    """The plane of a recipe, to be looked at live; a context in which its worker runs.

    recipe   as of `polykern.heat.prepare`; the window of its grid is level 0, its resolution is not used
    command  words of the `polykern heatmap` that maps the same plane, without window, resolution and folder
    cache    bytes of finished tiles that are kept
    errors   UsageError where the network or the window cannot be mapped

    pyramid     levels and tiles
    evaluation  engines
    scheduler   who waits for what
    name        of the model, fit to be seen
    token       that a page must know to ask for tiles: no other site can read it
    files       of the page, by name
    """

    def __init__(self, recipe: Recipe, *, command: Sequence[str] = (), cache: int = CACHE) -> None:
        self.pyramid = Pyramid(recipe.grid.plane, recipe.grid.window)
        self.evaluation = Evaluation(self.pyramid, recipe)
        self.scheduler = Scheduler(self._made, batch=self.evaluation.batch, budget=cache)
        self.token = secrets.token_hex(16)
        self.name = page.name(recipe)
        self.files = page.files(self.pyramid, self.evaluation, self.token, command)

    @property
    def overview(self) -> Level:
        """How level 0, the window in 256 pixels a side, is evaluated."""
        return self.evaluation.level(OVERVIEW)

    def __enter__(self) -> Self:
        self.scheduler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.scheduler.close()

    def _made(self, tiles: Sequence[Tile], wanted: Callable[[], bool]) -> list[bytes] | None:
        values = self.evaluation.values(tiles, wanted)
        if values is None:
            return None
        return [frames.frame(tile, value) for tile, value in zip(tiles, values, strict=True)]
