"""Reading ahead changes neither what is read nor what goes wrong, and leaves no thread behind."""

import threading
from collections.abc import Iterator

import pytest

from polykern.capturing.ahead import ahead


def threads() -> int:
    return sum(t.name == "polykern-reading" for t in threading.enumerate())


@pytest.mark.parametrize("count", [0, 1, 3, 100])
def test_the_same_in_the_same_order(count: int) -> None:
    assert list(ahead(iter(range(50)), count)) == list(range(50))
    assert threads() == 0


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("error", [ValueError("torn"), KeyboardInterrupt()])
def test_an_error_comes_behind_what_was_before_it(count: int, error: BaseException) -> None:
    def stream() -> Iterator[int]:
        yield from range(5)
        raise error

    seen: list[int] = []
    with pytest.raises(type(error)) as told:
        list(map(seen.append, ahead(stream(), count)))
    assert told.value is error
    assert seen == list(range(5))
    assert threads() == 0


def test_it_is_really_ahead_and_no_further_than_asked() -> None:
    reached, go = [], threading.Semaphore(0)

    def stream() -> Iterator[int]:
        for k in range(100):
            reached.append(k)
            if k == 4:
                go.release()
            yield k

    items = ahead(stream(), 3)
    assert next(items) == 0
    assert go.acquire(timeout=60)  # taken, three held, one at hand
    assert max(reached) == 4
    items.close()
    assert threads() == 0
    assert max(reached) < 99
