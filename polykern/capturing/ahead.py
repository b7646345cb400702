"""Reading ahead: the next units are read and cut into tokens while the model runs."""

from collections.abc import Generator, Iterator
from contextlib import suppress
from queue import Empty, Queue
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")


def ahead(stream: Iterator[T], count: int) -> Generator[T]:
    """What a stream gives, in its order, read by a thread that is up to `count` items ahead.

    stream  is used by that thread only
    count   0: none; the stream is read where it is asked

    Whatever the stream raises is raised here, behind the items before it. Closed early, it waits for the thread,
    which ends with the item it is at.
    """
    if count < 1:
        yield from stream
        return
    held: Queue[tuple[T | None, BaseException | None]] = Queue(count)
    stop, done = Event(), StopIteration()

    def read() -> None:
        end: BaseException = done
        try:
            for item in stream:
                held.put((item, None))
                if stop.is_set():
                    return
        except BaseException as error:
            end = error
        held.put((None, end))

    thread = Thread(target=read, name="polykern-reading", daemon=True)
    thread.start()
    try:
        while True:
            item, end = held.get()
            if end is done:
                return
            if end is not None:
                raise end
            yield item  # type: ignore[misc]
    finally:
        stop.set()
        while thread.is_alive():
            with suppress(Empty):
                while True:
                    held.get_nowait()
            thread.join(0.05)
