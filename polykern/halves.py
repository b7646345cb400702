"""Work that memory does not hold whole, done in halves: the one way in which engines get by with less.

For work whose answer does not depend on how it is divided: tiles of a map, points, pairs of codes, clusters. Passes
of a capture are not: what a network gives may hang on the batch in its last bits, so a smaller one is asked for and
recorded, never taken by itself.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from polykern.errors import ResourceError, first_line, out_of_memory

Work = TypeVar("Work")
Done = TypeVar("Done")


def halved(
    job: Callable[[Work], Done],
    work: Work,
    *,
    what: str,
    fix: str,
    halves: Callable[[Work], Sequence[Work]] | None = None,
) -> list[Done]:
    """What a job gives for the whole, or for its parts, in order.

    job     of whole work or of a part; called again after it failed, so it changes nothing before it succeeds
    work    what there is to do: a tensor, a list, a range, whatever `halves` takes apart
    what    the least part is called when even that does not fit
    fix     to be said then
    halves  takes work apart, into nothing where it is one piece; None: in the middle

    Errors: ResourceError when memory, of the device or of the host, does not hold the least part; whatever else the
    job raises.
    """
    try:
        return [job(work)]
    except Exception as error:
        if not out_of_memory(error):
            raise
        parts = (halves or _middle)(work)
        if not parts:
            raise ResourceError(f"memory does not hold {what}", why=first_line(error), fix=fix) from error
    torch.cuda.empty_cache()  # here, where the failed call and what it held are gone
    return [done for part in parts for done in halved(job, part, what=what, fix=fix, halves=halves)]


def _middle(work: Any) -> list[Any]:
    half = len(work) // 2
    return [work[:half], work[half:]] if half else []
