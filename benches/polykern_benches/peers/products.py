"""Products of all columns of some rows with each other, in plain float64 torch.

A stream of rows is as many times what some of them take.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from polykern_benches._harness import Measured
from polykern_kernels import pack
from polykern_kernels._dispatch import Impl


def scaled(some: Tensor, rows: int, run: Callable[[Tensor], Any], *, device: str) -> Measured:
    """The time of a peer on some rows, scaled to all `rows`; the result is that of some."""
    wait = torch.cuda.synchronize if device == "cuda" else _nothing
    run(some)  # warms up
    wait()
    start = time.perf_counter()
    found = run(some)
    wait()
    seconds, share = time.perf_counter() - start, len(some) / rows
    return Measured(found, seconds / share, None, {"measured_share": share})


def _covariance(x: Tensor) -> tuple[Tensor, Tensor]:
    y = x.double()
    mean = y.mean(0)
    y -= mean
    return mean, y.T @ y / len(y)


def _cooccurrence(words: Tensor) -> Tensor:
    """float64, exact: counts are below 2**53."""
    on = pack.unpack(words, 32 * words.shape[1]).double()
    return on.T @ on


COVARIANCE = Impl("torch float64", _covariance, lambda *args: None)
COOCCURRENCE = Impl("torch float64", _cooccurrence, lambda *args: None)


def _nothing() -> None:
    return None
