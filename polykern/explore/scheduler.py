"""Who gets which tile next: what is in view first, what left the view not at all; what is finished is kept a while.

A page says what it sees, in the order it wants it; what it said before is forgotten with that. One worker
evaluates tiles (an engine takes all cores, or the device, by itself), several of one level at a time, page after
page in turn. Finished tiles are kept up to a number of bytes; the one not asked for longest goes first.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from polykern.errors import PolykernError
from polykern.explore.pyramid import Tile

PAGES = 16  # that are served at once; a new one ends the one that was longest silent
PULSE = 1.0  # seconds between signs of life to a page that waits

Make = Callable[[Sequence[Tile], Callable[[], bool]], list[bytes] | None]
Answer = tuple[Tile, bytes | PolykernError]


@dataclass(eq=False)
class View:
    """What one page waits for.

    waiting  tiles that are not finished, the most wanted first
    ready    finished tiles that the page has not been given
    over     whether the page looks elsewhere by now
    """

    waiting: dict[Tile, None] = field(default_factory=dict)
    ready: deque[Answer] = field(default_factory=deque)
    over: bool = False


class Scheduler:
    """Tiles on demand.

    make    make(tiles of one level, wanted) -> what is sent for each; None when `wanted()` became false half way
    batch   tiles in one call of `make` at most
    budget  bytes of finished tiles that are kept; the last one is kept whatever its size
    """

    def __init__(self, make: Make, *, batch: int, budget: int) -> None:
        self._make, self._batch, self._budget = make, batch, budget
        self._changed = threading.Condition()
        self._views: dict[str, View] = {}  # by page; the one served longest ago first
        self._kept: OrderedDict[Tile, bytes] = OrderedDict()
        self._bytes = 0
        self._closed = False
        self._worker = threading.Thread(target=self._work, name="tiles", daemon=True)

    def start(self) -> None:
        """Let the worker begin."""
        self._worker.start()

    def close(self) -> None:
        """End all views and the worker; waits for the call of `make` that is under way."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._worker.is_alive():
            self._worker.join()

    def view(self, page: str, tiles: Sequence[Tile]) -> View:
        """What `page` sees from now on, the most wanted first; whatever it waited for before is dropped."""
        view = View()
        with self._changed:
            for tile in tiles:
                if tile in self._kept:
                    self._kept.move_to_end(tile)
                    view.ready.append((tile, self._kept[tile]))
                else:
                    view.waiting[tile] = None
            for gone in [page, *list(self._views)[: len(self._views) - PAGES + 1]]:
                if gone in self._views:
                    self._views.pop(gone).over = True
            self._views[page] = view
            self._changed.notify_all()
        return view

    def leave(self, view: View) -> None:
        """The page of `view` is gone."""
        with self._changed:
            view.over = True
            self._views = {page: v for page, v in self._views.items() if v is not view}

    def answers(self, view: View) -> Iterator[Answer | None]:
        """The tiles of a view as they are finished, or why one cannot be; None for every PULSE without one.

        Ends with the last tile, or when the page looks elsewhere.
        """
        while True:
            with self._changed:
                if not view.ready and view.waiting and not (view.over or self._closed):
                    self._changed.wait(PULSE)
                if view.over or self._closed or not (view.ready or view.waiting):
                    return
                answer = view.ready.popleft() if view.ready else None
            yield answer

    def step(self) -> list[Tile]:
        """Evaluate the tiles that are next; gives those that were finished, none when nothing is wanted."""
        with self._changed:
            batch = self._next()
        if not batch:
            return []
        try:
            made: Sequence[bytes | PolykernError] | None = self._make(batch, lambda: self._wanted(batch))
        except PolykernError as error:
            made = [error] * len(batch)
        except Exception as error:  # whatever it was, the pages that wait are told and the next tile is tried
            made = [PolykernError(f"{type(error).__name__}: {error}")] * len(batch)
        if made is None:
            return []
        with self._changed:
            for tile, result in zip(batch, made, strict=True):
                self._finish(tile, result)
            self._changed.notify_all()
        return batch

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (self._closed or any(v.waiting for v in self._views.values())):
                    self._changed.wait()
                if self._closed:
                    return
            self.step()

    def _next(self) -> list[Tile]:
        """The first tile of the page that was served longest ago, and those of its level behind it."""
        for page, view in self._views.items():
            if view.waiting:
                self._views[page] = self._views.pop(page)
                first = next(iter(view.waiting))
                return [t for t in view.waiting if t.level == first.level][: self._batch]
        return []

    def _wanted(self, batch: Sequence[Tile]) -> bool:
        with self._changed:
            return not self._closed and any(t in v.waiting for v in self._views.values() for t in batch)

    def _finish(self, tile: Tile, result: bytes | PolykernError) -> None:
        for view in self._views.values():
            if tile in view.waiting:
                del view.waiting[tile]
                view.ready.append((tile, result))
        if isinstance(result, PolykernError):
            return
        self._bytes += len(result) - len(self._kept.pop(tile, b""))
        self._kept[tile] = result
        while self._bytes > self._budget and len(self._kept) > 1:
            self._bytes -= len(self._kept.popitem(last=False)[1])
