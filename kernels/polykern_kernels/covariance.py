"""Mean and covariance of activations, streamed: their second moments about a shift.

    sums[j]        = sum over rows of (x[j] - shift[j])
    products[i, j] = sum over rows of (x[i] - shift[i]) (x[j] - shift[j])
    mean = shift + sums / n,      covariance = (products - sums sums' / n) / (n - ddof)

The first rows choose the shift: their mean where it is more than 4 of their standard deviations from zero, else 0.
So the subtraction of sums sums' / n costs no more than a factor of 17 of the accuracy, and most columns are taken
as they are. Sums and products are float64. With u = 2**-24, S[i, j] the sum of |x[i] - shift[i]| |x[j] - shift[j]|,
and the rounding of float64 left out, the error of products[i, j] is at most

    0         for float64, and for float32 on a GPU: float64 throughout
    2050 u S  for float32, float16, bfloat16 on the CPU: x - shift is rounded to float32 once, and the products of
              2048 rows are added in float32 before they are added in float64
    16384 u S for float16, bfloat16 on a GPU: the tensor cores multiply x itself, and the product of two 16-bit
              numbers is exact in float32. They add those of 4096 rows in float32 and drop what is below the last
              bit of the largest term; 4 u a term covers both. Columns with a shift, few in a layer, are float64

Errors of both signs make it about the root of the number of rows smaller. TF32 is never used. Squares below 2**-126
are lost where sums are float32. A state is plain tensors: saved and loaded it goes on where it was, and states of
parts merge to the state of all (Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance").
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from polykern_kernels import _check
from polykern_kernels._cost import Cost
from polykern_kernels._dispatch import backends, choose

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
ROWS = 1 << 14  # rows at a time: in float64 1.6 GB of a layer of 12,288 neurons
CENTRED = 4.0  # standard deviations: a mean that is farther from zero is subtracted

# --- contract -----------------------------------------------------------------------------------


class State(NamedTuple):
    """Moments of some rows.

    n         int64 ()         how many rows, on the CPU
    shift     float64 (d)      what was subtracted from each row
    sums      float64 (d)      of the differences
    products  float64 (d, d)   of the differences; what is below the diagonal counts nowhere
    """

    n: Tensor
    shift: Tensor
    sums: Tensor
    products: Tensor


def start(d: int, device: torch.device | str = "cpu") -> State:
    """The moments of no rows.

    d        columns
    device   where the state lies
    returns  State
    """
    zeros = (torch.zeros(shape, dtype=torch.float64, device=device) for shape in ((d,), (d,), (d, d)))
    return State(torch.zeros((), dtype=torch.int64), *zeros)


def add(state: State, rows: Tensor, *, backend: str | None = None) -> None:
    """More rows into a state, in place.

    state    State                                        of d columns
    rows     float32|float64|bfloat16|float16 (rows, d)   activations, on the state's device
    backend  "triton" | "cpu" | "reference"; None takes the first that can run

    The error is stated at the head of the module. The first rows a state meets choose its shift: some dozens are
    enough. Raises ValueError when the arguments do not fit.
    """
    op = "covariance.add"
    _check_state(op, "state", state)
    _check.tensor(op, "rows", rows, FLOATS, "rows", "d")
    _check.same_device(op, state=state.products, rows=rows)
    if rows.shape[1] != len(state.shift):
        _check.fail(op, "rows", f"float (rows, {len(state.shift)})", rows)
    run = choose(op, IMPLS, backend, rows).run
    for block in rows.detach().split(ROWS) if len(rows) else ():
        if rows.shape[1]:
            if not int(state.n):
                state.shift.copy_(_shift(block))
            run(state, block)
        state.n.add_(len(block))


def merge(a: State, b: State) -> State:
    """The state of the rows of both.

    a        State
    b        State   of as many columns, on a's device
    returns  State   with a's shift; b's where a has no rows

    Exact up to the rounding of float64. Raises ValueError when the arguments do not fit.
    """
    for name, state in (("a", a), ("b", b)):
        _check_state("covariance.merge", name, state)
    _check.same_device("covariance.merge", a=a.products, b=b.products)
    if a.products.shape != b.products.shape:
        _check.fail("covariance.merge", "b", f"a state of {len(a.shift)} columns", b.products)
    if not int(a.n):
        a, b = b, a
    n, moved = int(b.n), b.shift - a.shift
    outer = torch.outer(b.sums, moved)
    products = a.products + b.products + outer + outer.T + n * torch.outer(moved, moved)
    return State(a.n + b.n, a.shift.clone(), a.sums + b.sums + n * moved, products)


def read(state: State, ddof: int = 0) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the rows of a state.

    state    State
    ddof     subtracted from the number of rows: 0 for the covariance of these rows, 1 for an unbiased estimate
    returns  float64 (d)      mean
             float64 (d, d)   covariance, symmetric

    Raises ValueError when there are no more than `ddof` rows, and when rows held values that are not finite.
    """
    op = "covariance.read"
    _check_state(op, "state", state)
    n = int(state.n)
    if n <= ddof:
        raise ValueError(f"{op}: needs more than {ddof} rows, the state has {n}")
    if not bool((state.sums.isfinite() & state.products.diagonal().isfinite()).all()):
        raise ValueError(f"{op}: rows held values that are not finite, or whose squares are not")
    half = state.products - torch.outer(state.sums, state.sums / n)
    half = half.triu_().div_(n - ddof)
    return state.shift + state.sums / n, half + half.triu(1).T


def cost(rows: int, d: int, itemsize: int) -> Cost:
    """`add`: read the rows once, read and write the upper products once; 2 operations a row and upper product.

    The operations are 16-bit products of the tensor cores for 16-bit rows on a GPU, float32 for float32 and 16-bit
    rows on the CPU, float64 for the others.
    """
    pairs = d * (d + 1) // 2
    return Cost(bytes=rows * d * itemsize + 16 * pairs, flops=2 * rows * pairs)


def _check_state(op: str, name: str, state: State) -> None:
    d = len(state.shift)
    _check.sized(op, f"{name}.n", state.n, torch.int64)
    _check.sized(op, f"{name}.shift", state.shift, torch.float64, d)
    _check.sized(op, f"{name}.sums", state.sums, torch.float64, d)
    _check.sized(op, f"{name}.products", state.products, torch.float64, d, d)
    if not state.products.is_contiguous():
        raise ValueError(f"{op}: {name}.products must be contiguous")


def _shift(rows: Tensor) -> Tensor:
    """float64 (d): the means that are far from zero, and zeros."""
    x = rows.double()
    mean = x.mean(0)
    return torch.where(mean.abs() > CENTRED * x.std(0, correction=0), mean, 0.0)


# --- reference: float64 throughout ----------------------------------------------------------------------


def _add_reference(state: State, rows: Tensor) -> None:
    y = rows.double() - state.shift
    state.sums.add_(y.sum(0))
    state.products.add_(y.T @ y)


# --- cpu: NumPy's product of a matrix with itself, which is half of a product and which no flag of torch rounds ---

_FLUSH = 2048  # rows whose products are added in the precision of the differences


def _add_cpu(state: State, rows: Tensor) -> None:
    wide = torch.float64 if rows.dtype == torch.float64 else torch.float32
    for part in rows.split(_FLUSH):
        y = part.double() - state.shift
        state.sums.add_(y.sum(0))
        short = y.to(wide).numpy()
        state.products.add_(torch.from_numpy(short.T @ short))


def _triton_objection(rows: Tensor) -> str | None:
    if rows.dtype not in (torch.float16, torch.bfloat16):
        return f"multiplies float16 and bfloat16, got {str(rows.dtype).removeprefix('torch.')}"
    return _BACKENDS[0].objection(rows)


_BACKENDS = backends("covariance", "add", cpu=_add_cpu, reference=_add_reference)
IMPLS = (replace(_BACKENDS[0], objection=_triton_objection), *_BACKENDS[1:])
