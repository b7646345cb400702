"""What a bench file is made of: cases, what they are set up with, and where they run.

A file `bench_FAMILY.py` has `cases(setting) -> list[Case]`. Making the list costs nothing: what a case needs is
made by its `setup` when its turn comes and let go of behind it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polykern_kernels._cost import Cost
from polykern_kernels._dispatch import Impl

REPETITIONS = 15  # runs that are timed
Params = dict[str, int | float | str]


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Trial:
    """A case that was set up.

    inputs  the tensors that decide which ways can run
    run     runs it in the named way, and gives the result or a `Measured` one
    holds   whether a result is right, by the reference on as much of it as that can do
    beside  hands the same data to a peer's function; None runs peers by their names too
    close   removes what lies on disk
    """

    inputs: tuple[Tensor, ...]
    run: Callable[[str], Any]
    holds: Callable[[Any], bool]
    beside: Callable[[Callable[..., Any]], Any] | None = None
    close: Callable[[], None] = _nothing


@dataclass(frozen=True, slots=True)
class Measured:
    """A result with its own measurement, of a process of its own.

    result   what the gate looks at
    seconds  wall-clock time
    added    bytes of memory above what was held before, None where nobody says
    told     what else is worth writing down
    """

    result: Any
    seconds: float
    added: int | None = None
    told: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Case:
    """One operation at one size.

    operation  "family.operation"
    params     sizes and choices by name
    dtype      of the largest operand
    cost       the least work any implementation does; None where work has no unit
    ways       our implementations, in order of preference
    setup      makes the data
    peers      implementations of others, on the same data; their objection is the line that installs them
    memory     bytes it needs at once; what the cost moves, by default
    precision  of the floating-point operations that are counted
    heavy      runs only when it is asked for
    samples    timed runs at most
    """

    operation: str
    params: Params
    dtype: str
    cost: Cost | None
    ways: Sequence[Impl]
    setup: Callable[[], Trial]
    peers: Sequence[Impl] = ()
    memory: int | None = None
    precision: str = "float64"
    heavy: bool = False
    samples: int = REPETITIONS

    @property
    def name(self) -> str:
        """The operation, its sizes and its dtype, on one line."""
        sizes = "".join(f" {key}={value}" for key, value in self.params.items())
        return f"{self.operation}{sizes} {self.dtype}"

    @property
    def needs(self) -> int:
        """Bytes of memory it cannot do without."""
        return self.memory if self.memory is not None else self.cost.bytes if self.cost is not None else 0


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and how large: "cpu" or "cuda", the current device, and whether sizes are toys."""

    device: str
    small: bool

    def pick(self, full: Any, toy: Any) -> Any:
        """The full size or the toy."""
        return toy if self.small else full


def same(a: Any, b: Any) -> bool:
    """Equal tensors, or sequences of them, on any device."""
    if isinstance(a, Tensor):
        return torch.equal(a.cpu(), b.cpu())
    return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))


def codes(*shape: int, device: str, seed: int = 0) -> Tensor:
    """Random packed codes."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(-(2**31), 2**31, shape, dtype=np.int32)).to(device)
