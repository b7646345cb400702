"""Who gets which tile next, with a fake engine and no clock."""

from collections.abc import Callable, Sequence

import pytest

from polykern.errors import CorruptError, PolykernError
from polykern.explore import Tile, scheduler
from polykern.explore.scheduler import Scheduler, View

ROW = [Tile(3, 0, column) for column in range(6)]


class Engine:
    """Makes `size` bytes a tile and remembers the calls."""

    def __init__(self, size: int = 10) -> None:
        self.size, self.calls = size, list[list[Tile]]()
        self.before: Callable[[Callable[[], bool]], bool] = lambda wanted: True

    def __call__(self, tiles: Sequence[Tile], wanted: Callable[[], bool]) -> list[bytes] | None:
        self.calls.append(list(tiles))
        return [self.bytes(t) for t in tiles] if self.before(wanted) else None

    def bytes(self, tile: Tile) -> bytes:
        return f"{tile.level}.{tile.row}.{tile.column}".encode().ljust(self.size)


def made(batch: int = 1, budget: int = 1000, size: int = 10) -> tuple[Scheduler, Engine]:
    engine = Engine(size)
    return Scheduler(engine, batch=batch, budget=budget), engine


def run(found: Scheduler) -> None:
    """Until nothing is wanted."""
    while found.step():
        pass


def got(found: Scheduler, view: View) -> list[Tile]:
    """The tiles a view is given; everything it waits for is finished."""
    return [answer[0] for answer in found.answers(view) if answer]


def test_tiles_come_in_the_order_of_the_page() -> None:
    found, engine = made(batch=2)
    tiles = [ROW[3], ROW[2], ROW[4], ROW[0], ROW[5]]
    view = found.view("a", tiles)
    run(found)
    assert engine.calls == [tiles[:2], tiles[2:4], tiles[4:]]
    assert list(found.answers(view)) == [(t, engine.bytes(t)) for t in tiles]


def test_one_call_holds_tiles_of_one_level() -> None:
    found, engine = made(batch=4)
    coarse = Tile(1, 0, 0)
    found.view("a", [coarse, ROW[0], ROW[1]])
    run(found)
    assert engine.calls == [[coarse], ROW[:2]]


def test_a_page_that_moved_on_gets_only_what_it_sees() -> None:
    found, engine = made()
    before = found.view("a", ROW[:4])
    found.step()
    after = found.view("a", [ROW[5], ROW[0]])
    assert list(found.answers(before)) == []
    run(found)
    assert engine.calls == [[ROW[0]], [ROW[5]]]
    assert set(got(found, after)) == {ROW[0], ROW[5]}


def test_a_tile_under_way_is_told_that_nobody_wants_it() -> None:
    found, engine = made()
    seen: list[bool] = []

    def moves_on(wanted: Callable[[], bool]) -> bool:
        seen.append(wanted())
        found.view("a", [ROW[1]])
        seen.append(wanted())
        return wanted()

    engine.before = moves_on
    found.view("a", [ROW[0]])
    assert found.step() == []
    assert seen == [True, False]
    engine.before = lambda wanted: wanted()
    run(found)
    assert engine.calls == [[ROW[0]], [ROW[1]]]


def test_what_is_finished_though_unwanted_is_kept() -> None:
    found, engine = made()

    def moves_on(wanted: Callable[[], bool]) -> bool:
        found.view("a", [])
        return True

    engine.before = moves_on
    found.view("a", [ROW[0]])
    assert found.step() == [ROW[0]]
    assert got(found, found.view("a", [ROW[0]])) == [ROW[0]]
    assert engine.calls == [[ROW[0]]]


def test_pages_take_turns_and_share_tiles() -> None:
    found, engine = made()
    first, second = found.view("a", ROW[:3]), found.view("b", [ROW[5], ROW[1]])
    run(found)
    assert [call[0] for call in engine.calls] == [ROW[0], ROW[5], ROW[1], ROW[2]]
    assert got(found, first) == ROW[:3]
    assert got(found, second) == [ROW[5], ROW[1]]


def test_the_cache_is_bounded_in_bytes_and_keeps_what_was_asked_for_last() -> None:
    found, engine = made(budget=35)
    found.view("a", ROW[:3])
    run(found)
    assert got(found, found.view("a", [ROW[0]])) == [ROW[0]]  # now the last one asked for
    found.view("a", [ROW[3]])
    run(found)  # 40 bytes: the one not asked for longest goes
    engine.calls.clear()
    found.view("a", [ROW[0], ROW[2], ROW[3], ROW[1]])
    run(found)
    assert engine.calls == [[ROW[1]]]


def test_one_tile_is_kept_whatever_its_size() -> None:
    found, engine = made(budget=35, size=100)
    found.view("a", ROW[:2])
    run(found)
    found.view("a", [ROW[1], ROW[0]])
    run(found)
    assert engine.calls == [[ROW[0]], [ROW[1]], [ROW[0]]]


@pytest.mark.parametrize("error", [CorruptError("conv: NaN"), ZeroDivisionError("by zero")])
def test_a_failure_is_told_and_tried_again(error: Exception) -> None:
    found, engine = made()

    def fails(wanted: Callable[[], bool]) -> bool:
        raise error

    engine.before = fails
    view = found.view("a", [ROW[0]])
    found.step()
    ((tile, told),) = (answer for answer in found.answers(view) if answer)
    assert tile == ROW[0]
    assert isinstance(told, PolykernError)
    assert str(error) in told.what
    engine.before = lambda wanted: True
    again = found.view("a", [ROW[0]])
    found.step()
    assert list(found.answers(again)) == [(ROW[0], engine.bytes(ROW[0]))]


def test_a_page_that_left_is_not_worked_for() -> None:
    found, engine = made()
    view = found.view("a", ROW)
    found.leave(view)
    assert found.step() == []
    assert list(found.answers(view)) == []
    assert engine.calls == []


def test_the_page_silent_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "PAGES", 2)
    found, _ = made()
    views = [found.view(page, [tile]) for page, tile in zip("abc", ROW, strict=False)]
    run(found)
    assert [got(found, view) for view in views] == [[], [ROW[1]], [ROW[2]]]


def test_a_page_that_waits_hears_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "PULSE", 0)
    found, engine = made()
    answers = found.answers(found.view("a", [ROW[0]]))
    assert next(answers) is None
    found.step()
    assert next(answers) == (ROW[0], engine.bytes(ROW[0]))
    assert next(answers, "the end") == "the end"


def test_the_worker_works_until_it_is_closed() -> None:
    found, engine = made(batch=2)
    found.start()
    assert got(found, found.view("a", ROW)) == ROW
    waiting = found.view("b", [])
    found.close()
    assert list(found.answers(waiting)) == []
    assert [t for call in engine.calls for t in call] == ROW
    found.close()  # once more does no harm
