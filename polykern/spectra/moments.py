"""Second moments of rows, by group of documents: what a spectrum, its held-out twin and its interval are made of.

Documents are dealt into groups by their number; each group has its own moments. Their sum is the covariance of all
rows. Leaving out one group after the other says how far a number hangs on the documents, which the rows of one
document do not; even against odd groups are the two halves of a held-out spectrum. Moments of parts merge, in any
order.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.errors import CorruptError, UsageError
from polykern.ranks import Ranks
from polykern_kernels import cooccurrence, covariance

Reals = NDArray[np.float64]
GROUPS = 16


class Moments(Protocol):
    """Moments of rows in groups."""

    @property
    def width(self) -> int:
        """Columns of a row."""
        ...

    @property
    def rows(self) -> Reals:
        """float64 (groups): rows of each."""
        ...

    def read(self, weights: Sequence[float] | Reals | None = None, *, centred: bool = True) -> Tensor:
        """float64 (width, width): the covariance of the rows, those of each group counted `weights` times.

        centred  False: second moments about zero
        """
        ...

    def noise(self) -> float:
        """Variance a column that the rounding of the rows to their dtype makes up, at most."""
        ...

    def share(self, group: Ranks) -> None:
        """Give every rank the moments of the groups of documents that each of them has made: g of g % size."""
        ...


class ActivationMoments:
    """Moments of real rows.

    width   columns
    groups  documents are dealt into; each costs width^2 float64
    device  where the moments lie

    float64 throughout on the CPU, so that chunks and their order change nothing above its rounding; 16-bit rows on
    a GPU go through the tensor cores (`polykern_kernels.covariance` states the error).
    """

    def __init__(self, width: int, groups: int = GROUPS, device: torch.device | str = "cpu") -> None:
        self.states = [covariance.start(width, device) for _ in range(groups)]
        self.roundoff = 0.0  # of the coarsest dtype that was met

    @property
    def width(self) -> int:
        """Columns of a row."""
        return len(self.states[0].shift)

    @property
    def rows(self) -> Reals:
        """float64 (groups): rows of each."""
        return np.array([float(s.n) for s in self.states])

    def add(self, rows: Tensor, documents: NDArray[Any] | None = None) -> None:
        """More rows.

        rows       float (n, width)   on the moments' device
        documents  int (n)            the document of each; None: every row is a document of its own

        Errors: CorruptError when a row holds NaN or infinity.
        """
        if not bool(rows.isfinite().all()):
            bad = int((~rows.isfinite()).any(1).nonzero()[0, 0])
            raise CorruptError("activations hold NaN or infinity", why=f"first in row {bad} of {len(rows)}")
        self.roundoff = max(self.roundoff, torch.finfo(rows.dtype).eps / 2)
        for group, index in _dealt(documents, int(self.rows.sum()), len(rows), len(self.states)):
            some = rows[index.to(rows.device)]
            covariance.add(self.states[group], some if some.is_cuda else some.double())

    def merge(self, other: "ActivationMoments") -> None:
        """Take in the rows of another one with as many groups and columns."""
        _require_alike(self, other)
        self.roundoff = max(self.roundoff, other.roundoff)
        self.states = [covariance.merge(a, b) for a, b in zip(self.states, other.states, strict=True)]

    def read(self, weights: Sequence[float] | Reals | None = None, *, centred: bool = True) -> Tensor:
        """As of `Moments`."""
        w = _weights(weights, self.rows)
        n = float(w @ self.rows)
        shift = self.states[0].shift
        sums, products = torch.zeros_like(shift), torch.zeros_like(self.states[0].products)
        for weight, s in zip(w.tolist(), self.states, strict=True):
            if not weight or not int(s.n):
                continue
            moved = s.shift - shift
            outer = torch.outer(s.sums, moved)
            sums += weight * (s.sums + int(s.n) * moved)
            products += weight * (
                s.products.triu() + (outer + outer.T + int(s.n) * torch.outer(moved, moved)).triu()
            )
        mean = sums / n
        half = products / n - torch.outer(mean, mean).triu()
        if not centred:
            whole = shift + mean
            half += torch.outer(whole, whole).triu()
        return half + half.triu(1).T

    def noise(self) -> float:
        """As of `Moments`."""
        return self.roundoff**2 * float(self.read(centred=False).diagonal().mean())

    def share(self, group: Ranks) -> None:
        """As of `Moments`; every group travels as it is, so that nothing is rounded."""
        if group.size == 1:
            return
        for rank in range(group.size):
            of = range(rank, len(self.states), group.size)
            for name in covariance.State._fields if of else ():
                own = torch.stack([getattr(self.states[g], name) for g in of])
                came = group.gathered(own if rank == group.rank else own[:0])[rank]
                for g, value in zip(of, came, strict=True):
                    self.states[g] = self.states[g]._replace(**{name: value.clone()})
        self.roundoff = max(float(x) for x in group.gathered(torch.tensor(self.roundoff, dtype=torch.float64)))

    def state_dict(self) -> dict[str, Tensor]:
        """Plain tensors: saved and loaded, a run goes on where it was."""
        state = {f"{k}.{name}": t for k, s in enumerate(self.states) for name, t in s._asdict().items()}
        return state | {"roundoff": torch.tensor(self.roundoff, dtype=torch.float64)}

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> Self:
        """The moments that `state_dict` gave."""
        groups = sum(key.endswith(".shift") for key in state)
        found = cls(len(state["0.shift"]), groups)
        found.roundoff = float(state["roundoff"])
        found.states = [
            covariance.State(*(state[f"{k}.{name}"] for name in covariance.State._fields)) for k in range(groups)
        ]
        return found


class CodeMoments:
    """Moments of the bits of codes, counted exactly by popcount.

    width   bits of a code
    groups  documents are dealt into; each costs width^2 int64
    """

    def __init__(self, width: int, groups: int = GROUPS, device: torch.device | str = "cpu") -> None:
        self.totals = torch.zeros(groups, width, width, dtype=torch.int64, device=device)
        self.rows = np.zeros(groups)

    @property
    def width(self) -> int:
        """Bits of a code."""
        return self.totals.shape[1]

    def add(self, words: Tensor, documents: NDArray[Any] | None = None) -> None:
        """More codes, int32 (n, words); documents as in `ActivationMoments.add`."""
        for group, index in _dealt(documents, int(self.rows.sum()), len(words), len(self.rows)):
            cooccurrence.add(self.totals[group], words[index])
            self.rows[group] += len(index)

    def merge(self, other: "CodeMoments") -> None:
        """Take in the codes of another one with as many groups and bits."""
        _require_alike(self, other)
        self.totals += other.totals
        self.rows += other.rows

    def read(self, weights: Sequence[float] | Reals | None = None, *, centred: bool = True) -> Tensor:
        """As of `Moments`."""
        w = _weights(weights, self.rows)
        total = torch.zeros(self.width, self.width, dtype=torch.float64, device=self.totals.device)
        for weight, counts in zip(w.tolist(), self.totals, strict=True):
            if weight:
                total += weight * counts
        second = total / float(w @ self.rows)
        mean = second.diagonal()
        return second - torch.outer(mean, mean) if centred else second

    def noise(self) -> float:
        """As of `Moments`: bits are exact."""
        return 0.0

    def share(self, group: Ranks) -> None:
        """As of `Moments`; counts are exact."""
        self.totals = group.total(self.totals)
        self.rows = group.total(torch.from_numpy(self.rows).long()).double().numpy()


def _dealt(documents: NDArray[Any] | None, before: int, n: int, groups: int) -> list[tuple[int, Tensor]]:
    """(group, rows of it) for the groups that have rows."""
    number = np.arange(before, before + n) if documents is None else np.asarray(documents)
    if number.shape != (n,):
        raise UsageError(f"{n} rows with {len(number)} documents")
    group = torch.from_numpy(number % groups)
    return [(g, (group == g).nonzero()[:, 0]) for g in group.unique().tolist()]


def _weights(given: Sequence[float] | Reals | None, rows: Reals) -> Reals:
    w = np.ones(len(rows)) if given is None else np.asarray(given, np.float64)
    if w.shape != rows.shape or not float(w @ rows) > 0:
        raise UsageError(f"{len(rows)} groups of {int(rows.sum())} rows leave nothing to take a covariance of")
    return w


def _require_alike(mine: Any, other: Any) -> None:
    if (mine.width, len(mine.rows)) != (other.width, len(other.rows)):
        raise UsageError(
            f"moments of {mine.width} columns in {len(mine.rows)} groups do not merge with {other.width} in "
            f"{len(other.rows)}"
        )
