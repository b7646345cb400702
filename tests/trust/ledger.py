"""What was tried for every promise, how long it took and what was lost: the table that `make soak` prints.

POLYKERN_SOAK in the environment multiplies the numbers of faults and inputs; without it the tests are those of
every day.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

SOAK = "POLYKERN_SOAK"
SCALE = max(1, int(os.environ.get(SOAK, "1")))
HEAD = ("promise", "tried", "losses", "CPU seconds")


@dataclass
class Account:
    """Of one promise: faults or inputs that were tried, those at which it did not hold, seconds of this process."""

    tried: int = 0
    losses: int = 0
    seconds: float = 0.0


ACCOUNTS: dict[str, Account] = {}


def scaled(n: int, most: int | None = None) -> int:
    """n faults or inputs, or as many times more as the soak asks for, at most `most`."""
    return n * SCALE if most is None else min(n * SCALE, most)


@contextmanager
def trial(promise: str, inputs: int = 1) -> Iterator[None]:
    """A context in which a promise is tried with so many faults or inputs; what it raises is a loss."""
    account, began = ACCOUNTS.setdefault(promise, Account()), time.process_time()
    account.tried += inputs
    try:
        yield
    except BaseException:
        account.losses += 1
        raise
    finally:
        account.seconds += time.process_time() - began


def table() -> list[str]:
    """The lines of the table, the sums last."""
    rows = [(p, f"{a.tried:,}", f"{a.losses:,}", f"{a.seconds:.1f}") for p, a in sorted(ACCOUNTS.items())]
    sums = Account(*(sum(getattr(a, n) for a in ACCOUNTS.values()) for n in ("tried", "losses", "seconds")))
    rows.append(("all", f"{sums.tried:,}", f"{sums.losses:,}", f"{sums.seconds:.1f}"))
    wide = max(len(row[0]) for row in (HEAD, *rows))
    return [f"{row[0]:<{wide}}" + "".join(f"{cell:>13}" for cell in row[1:]) for row in (HEAD, *rows)]
