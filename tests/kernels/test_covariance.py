"""covariance: inside its stated error, for means far from zero, any cut into chunks, any order of merging."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polykern_kernels import BackendError, covariance
from polykern_kernels.covariance import State
from tests.kernels.conftest import Way

U = 2.0**-24
EXACT = 2.0**-40  # of S: what float64 may round
BOUND = {"cpu": 2050 * U, "triton": 16384 * U}


def activations(rows: int, d: int, dtype: torch.dtype, rng: torch.Generator) -> torch.Tensor:
    """Columns of all kinds, beginning with one of mean 1e4 and deviation 1 and one that is constant."""
    x = torch.randn((rows, d), generator=rng, dtype=torch.float64)
    x *= 10.0 ** torch.randint(-3, 3, (d,), generator=rng)
    if d > 2:
        x[:, 0] = 1e4 + torch.randn(rows, generator=rng)
        x[:, 1] = 0.1
        x[:, 2] = x[:, 2].abs()
    return x.to(dtype)


def needs(way: Way, dtype: torch.dtype) -> None:
    """Skip what the tensor cores do not multiply."""
    if way.backend == "triton" and dtype not in (torch.float16, torch.bfloat16):
        pytest.skip("multiplies float16 and bfloat16")


def moments(rows: torch.Tensor, backend: str, cut: int = 0, device: str = "cpu") -> State:
    """The state of the rows on the CPU, added in one piece or in two."""
    state = covariance.start(rows.shape[1], device)
    for part in (rows[:cut], rows[cut:]):
        covariance.add(state, part.to(device), backend=backend)
    return State(*(t.cpu() for t in state))


def inside(got: State, rows: torch.Tensor, bound: float) -> None:
    """What was accumulated is that of float64 within the bound, and the covariance that of torch."""
    y = rows.double() - got.shift
    scale = y.abs().T @ y.abs()
    assert int(got.n) == len(rows)
    assert ((got.sums - y.sum(0)).abs() <= EXACT * y.abs().sum(0)).all()
    assert ((got.products - y.T @ y).triu().abs() <= (bound + EXACT) * scale).all()
    mean, found = covariance.read(got)
    x = rows.double()
    assert torch.allclose(mean, x.mean(0), rtol=1e-12, atol=1e-13)
    want = torch.cov(x.T, correction=0).reshape(found.shape)
    assert ((found - want).abs() <= (bound + 2 * EXACT) * scale / len(rows) + 1e-13).all()
    assert torch.equal(found, found.T)


SHAPES = [(1, 1), (1, 5), (2, 3), (33, 17), (300, 130), (2100, 7)]


@pytest.mark.parametrize("dtype", covariance.FLOATS, ids=str)
@pytest.mark.parametrize(("rows", "d"), SHAPES)
def test_is_that_of_float64(way: Way, rows: int, d: int, dtype: torch.dtype, rng: torch.Generator) -> None:
    needs(way, dtype)
    x = activations(rows, d, dtype, rng)
    bound = 0.0 if dtype == torch.float64 else BOUND[way.backend]
    inside(moments(x, way.backend, device=way.device), x, bound)
    inside(moments(x, "reference"), x, 0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_mean_of_ten_thousand_costs_nothing(way: Way, dtype: torch.dtype, rng: torch.Generator) -> None:
    needs(way, dtype)
    x = (1e4 + torch.randn((500, 40), generator=rng, dtype=torch.float64)).to(dtype)
    got = covariance.read(moments(x, way.backend, cut=100, device=way.device))[1]
    want = torch.cov(x.double().T, correction=0)
    deviation = want.diagonal().sqrt()
    assert ((got - want).abs() <= 1e-5 * deviation[:, None] * deviation).all()


def test_constant_columns_have_no_variance(way: Way) -> None:
    x = torch.tensor([0.1, -3.0, 1e4, 0.0]).bfloat16().expand(70, 4)
    mean, found = covariance.read(moments(x, way.backend, device=way.device))
    assert torch.equal(mean, x[0].double())
    assert torch.equal(found, torch.zeros((4, 4), dtype=torch.float64))


def test_blocks_and_chunks_change_no_more_than_rounding(
    way: Way, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way.backend == "triton":
        from polykern_kernels.device import covariance as device

        monkeypatch.setattr(device, "FLUSH", 32)
        monkeypatch.setattr(device, "WIDE", 16)
    monkeypatch.setattr(covariance, "ROWS", 50)
    monkeypatch.setattr(covariance, "_FLUSH", 16)
    x = activations(130, 20, torch.bfloat16, rng)
    for cut in (1, 64, 130):
        inside(moments(x, way.backend, cut, way.device), x, BOUND[way.backend])


def test_takes_views_and_parameters(way: Way, rng: torch.Generator) -> None:
    x = activations(90, 50, torch.bfloat16, rng).requires_grad_()[::3, 1::2]
    inside(moments(x, way.backend, device=way.device), x.detach(), BOUND[way.backend])
    columns = activations(40, 128, torch.bfloat16, rng).T.contiguous().T  # as wide as a block, one with a shift
    inside(moments(columns, way.backend, device=way.device), columns, BOUND[way.backend])


@given(st.lists(st.integers(0, 40), min_size=3, max_size=3), st.integers(1, 6), st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_merges_in_any_order(sizes: list[int], d: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    parts = [activations(n, d, torch.float64, rng) + 3 * k for k, n in enumerate(sizes)]
    a, b, c = (moments(part, "cpu") for part in parts)
    whole = torch.cat(parts)
    for state in (
        covariance.merge(covariance.merge(a, b), c),
        covariance.merge(a, covariance.merge(b, c)),
        covariance.merge(covariance.merge(c, b), a),
    ):
        assert int(state.n) == len(whole)
        if len(whole):
            inside(state, whole, 0.0)


def test_rows_without_columns_are_counted() -> None:
    state = covariance.start(0)
    covariance.add(state, torch.zeros(5, 0))
    assert int(state.n) == 5
    assert covariance.read(state)[1].shape == (0, 0)


def test_goes_on_where_it_was(rng: torch.Generator) -> None:
    x = activations(80, 9, torch.float32, rng)
    held = moments(x[:30], "cpu")
    again = State(*(t.clone() for t in held))
    for state in (held, again):
        covariance.add(state, x[30:], backend="cpu")
    assert all(torch.equal(p, q) for p, q in zip(held, again, strict=True))
    unbiased = covariance.read(held, ddof=1)[1]
    assert torch.allclose(unbiased, torch.cov(x.double().T), rtol=1e-5, atol=1e-5)


def test_messages(rng: torch.Generator) -> None:
    state, x = covariance.start(3), torch.zeros((2, 3))
    with pytest.raises(ValueError, match=r"add: rows must be float32\|.* \(rows, d\), got int64\[2, 3\]@cpu"):
        covariance.add(state, x.long())
    with pytest.raises(ValueError, match=r"add: rows must be float \(rows, 3\), got float32\[2, 2\]@cpu"):
        covariance.add(state, x[:, :2])
    with pytest.raises(ValueError, match=r"add: state.sums must be float64\[3\], got float32\[3\]@cpu"):
        covariance.add(state._replace(sums=state.sums.float()), x)
    with pytest.raises(ValueError, match=r"add: state.products must be contiguous"):
        covariance.add(state._replace(products=torch.zeros((3, 6), dtype=torch.float64)[:, ::2]), x)
    with pytest.raises(ValueError, match=r"merge: b must be a state of 3 columns, got float64\[2, 2\]@cpu"):
        covariance.merge(state, covariance.start(2))
    with pytest.raises(ValueError, match=r"read: needs more than 0 rows, the state has 0"):
        covariance.read(state)
    with pytest.raises(BackendError, match=r"triton: multiplies float16 and bfloat16, got float32"):
        covariance.add(state, x, backend="triton")
    covariance.add(state, x.index_fill(1, torch.tensor([1]), torch.nan))
    with pytest.raises(ValueError, match=r"read: rows held values that are not finite"):
        covariance.read(state)


def test_cost_counts_compulsory_work() -> None:
    c = covariance.cost(rows=5, d=3, itemsize=2)
    assert (c.bytes, c.flops) == (5 * 3 * 2 + 16 * 6, 2 * 5 * 6)
