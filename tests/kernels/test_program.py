"""program.run: every backend gives the reference's bits, and the laws of what a program is."""

import dataclasses
import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polykern_kernels._dispatch import BackendError
from polykern_kernels.program import CLASS, FOLD, KINK, NORM, RIVAL, Outcome, Programs, cost, run
from tests.kernels.conftest import triton_way

FIELDS = 3
SHAPES = [(5, 9), (1, 1), (16, 16), (17, 8)]  # odd, a single pixel, several chunks of 256 points, taller than wide


def random_programs(seed: int, tiles: int = 5, length: int = 14) -> Programs:
    """Valid programs with every kind of instruction; about a quarter of the tiles are empty.

    Every form has a constant with continuous coefficients, so that no z lies near 0 and all signs are certain.
    """
    rng = np.random.default_rng(seed)
    per_tile = [_tile(rng, 0 if rng.random() < 0.25 else length) for _ in range(tiles)]
    rows = [row for rows, _, _ in per_tile for row in rows]
    terms = [t for *_, forms in rows for t in forms]
    counts = [len(forms) for *_, forms in rows]

    def column(k: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.tensor([row[k] for row in rows], dtype=dtype)

    return Programs(
        first=_cumulated([len(rows) for rows, _, _ in per_tile]),
        kind=column(0, torch.int8),
        target=column(1, torch.int32),
        field=column(2, torch.int32),
        key=torch.from_numpy(rng.integers(-(2**63), 2**63 - 1, (len(rows), 2))),
        tolerance=torch.from_numpy(rng.uniform(0, 0.2, len(rows))),
        start=_cumulated(counts),
        term=torch.tensor([t for t, _ in terms], dtype=torch.int32),
        coefficient=torch.tensor([c for _, c in terms], dtype=torch.float64),
        symbols=torch.tensor([symbols for _, symbols, _ in per_tile], dtype=torch.int32),
        scale=torch.tensor([scale for *_, scale in per_tile], dtype=torch.int32),
        digest=torch.from_numpy(rng.integers(-(2**63), 2**63 - 1, (tiles, 2))),
        margin=torch.from_numpy(rng.exponential(1.0, tiles)),
        winner=torch.from_numpy(rng.integers(-1, 4, tiles).astype(np.int32)),
    )


Row = tuple[int, int, int, list[tuple[int, float]]]  # kind, target, field, terms


def _tile(rng: np.random.Generator, length: int) -> tuple[list[Row], int, int]:
    """Instructions, symbols and scale of one tile."""
    rows: list[Row] = []
    symbols, scale = 3, -1
    if length and rng.random() < 0.5:
        quadratic = [(k, float(c)) for k, c in enumerate((2.0, 0.1, -0.1, 0.3, 0.05, 0.2))]
        rows.append((NORM, 3, -1, quadratic))
        symbols, scale = 4, 3
    while len(rows) < length:
        kind = int(rng.choice([KINK, FOLD, RIVAL, CLASS], p=[0.4, 0.35, 0.15, 0.1]))
        if kind == RIVAL:
            rows += [(RIVAL, symbols, -1, _form(rng, symbols)) for _ in range(rng.integers(1, 4))]
            symbols += 1
        elif kind == CLASS:
            rows.append((CLASS, int(rng.integers(0, 9)), -1, _form(rng, symbols)))
        else:
            rows.append((kind, symbols, int(rng.integers(-1, FIELDS)), _form(rng, symbols)))
            symbols += 1
    return rows, symbols, scale


def _form(rng: np.random.Generator, symbols: int) -> list[tuple[int, float]]:
    chosen = np.flatnonzero(rng.random(symbols) < 0.6)
    return [(int(k), float(rng.normal())) for k in sorted({0, *chosen.tolist()})]


def _cumulated(counts: list[int]) -> torch.Tensor:
    return torch.tensor([0, *np.cumsum(counts, dtype=np.int64).tolist()], dtype=torch.int64)


def runnable(backend: str) -> None:
    """Skip where CPU tensors are nothing for a backend."""
    if backend == "triton":
        triton_way("interpreter")


def assert_same(got: Outcome, wanted: Outcome) -> None:
    for name in ("right", "down", "classes", "digest", "uncertain", "signs"):
        a, b = (getattr(x, name) for x in (got, wanted))
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a.cpu(), b.cpu()), name
    torch.testing.assert_close(got.margin.cpu(), wanted.margin.cpu(), rtol=1e-6, atol=1e-9)


@functools.cache
def reference(seed: int, height: int, width: int) -> Outcome:
    return run(random_programs(seed), height, width, FIELDS, signs=True, backend="reference")


@pytest.mark.parametrize("backend", ["cpu", "triton"])
@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_reference(backend: str, height: int, width: int, seed: int) -> None:
    p = random_programs(seed)
    runnable(backend)
    wanted = reference(seed, height, width)
    assert wanted.signs is not None
    assert 0 < wanted.signs.sum() < wanted.signs.numel()
    assert_same(run(p, height, width, FIELDS, signs=True, backend=backend), wanted)
    assert_same(run(p, height, width, FIELDS, backend=backend), dataclasses.replace(wanted, signs=None))


@pytest.mark.gpu
@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_a_gpu_equals_the_reference(height: int, width: int) -> None:
    triton_way("cuda")
    for seed in range(3):
        p = random_programs(seed, tiles=50, length=40)
        wanted = run(p, height, width, FIELDS, signs=True, backend="reference")
        assert_same(run(p.to("cuda"), height, width, FIELDS, signs=True, backend="triton"), wanted)


@pytest.mark.parametrize("backend", ["cpu", "triton", "reference"])
def test_tiles_without_instructions_keep_their_base_values(backend: str) -> None:
    p = random_programs(7, tiles=4, length=0)
    runnable(backend)
    out = run(p, 3, 4, FIELDS, backend=backend)
    assert not out.right.any()
    assert not out.down.any()
    assert not out.uncertain.any()
    assert torch.equal(out.classes, p.winner[:, None, None].expand(4, 3, 4))
    assert torch.equal(out.digest, p.digest[:, None, None].expand(4, 3, 4, 2))
    assert torch.equal(out.margin, p.margin.float()[:, None, None].expand(4, 3, 4))


def one_kink(kind: int, a: float, b: float, c: float) -> Programs:
    """A single tile with the form a + b u + c v and nothing else."""
    whole = functools.partial(torch.tensor, dtype=torch.int64)
    small = functools.partial(torch.tensor, dtype=torch.int32)
    real = functools.partial(torch.tensor, dtype=torch.float64)
    return Programs(
        first=whole([0, 1]), kind=torch.tensor([kind], dtype=torch.int8), target=small([3]), field=small([0]),
        key=whole([[5, -7]]), tolerance=real([0.0]), start=whole([0, 3]), term=small([0, 1, 2]),
        coefficient=real([a, b, c]), symbols=small([4]), scale=small([-1]), digest=whole([[0, 0]]),
        margin=real([100.0]), winner=small([-1]),
    )  # fmt: skip


@pytest.mark.parametrize("backend", ["cpu", "triton", "reference"])
@pytest.mark.parametrize("kind", [KINK, FOLD])
def test_one_line_across_a_tile(backend: str, kind: int) -> None:
    """u > 0.25 on pixels at u = -2, -1, 0, 1 | 2: the flip lies between the third and the fourth column."""
    p = one_kink(kind, -0.25, 1.0, 0.0)
    runnable(backend)
    out = run(p, 2, 4, 1, signs=True, backend=backend)
    assert out.right[0, 0].tolist() == [[0, 0, 1, 0]] * 2
    assert not out.down.any()
    assert out.digest[0, 0].tolist() == [[0, 0]] * 3 + [[5, -7]]
    assert out.margin[0, 1].tolist() == [2.25, 1.25, 0.25, 0.75]
    assert out.signs is not None
    assert out.signs[0, 2].tolist() == [False, False, False, True, True]


@pytest.mark.parametrize("backend", ["cpu", "triton", "reference"])
def test_class_ties_go_to_the_smaller_class(backend: str) -> None:
    """Candidates 7, 3, 4, all worth u, against the winner 5: a tie with it at u = 0, with each other beyond."""
    p = one_kink(CLASS, 0.0, 1.0, 0.0)
    small = functools.partial(torch.tensor, dtype=torch.int32)
    p = dataclasses.replace(
        p, first=torch.tensor([0, 3]), kind=p.kind.repeat(3), target=small([7, 3, 4]), field=small([-1] * 3),
        key=p.key.repeat(3, 1), tolerance=p.tolerance.repeat(3), start=torch.tensor([0, 3, 6, 9]),
        term=p.term.repeat(3), coefficient=p.coefficient.repeat(3), winner=small([5]),
    )  # fmt: skip
    runnable(backend)
    assert run(p, 1, 4, 1, backend=backend).classes.tolist() == [[[5, 5, 3, 3]]]


@pytest.mark.parametrize("backend", ["cpu", "triton", "reference"])
def test_a_kink_without_a_field_is_no_bit_of_the_code(backend: str) -> None:
    runnable(backend)
    p = one_kink(KINK, -0.25, 1.0, 0.0)
    p = dataclasses.replace(p, field=torch.tensor([-1], dtype=torch.int32), tolerance=p.tolerance + 9)
    out = run(p, 2, 4, 1, backend=backend)
    assert not any(x.any() for x in (out.right, out.down, out.digest, out.uncertain))
    assert (out.margin == 100).all()


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 6))
@settings(deadline=None, max_examples=30)
def test_counts_are_differences_of_signs(seed: int, height: int, width: int) -> None:
    p = random_programs(seed, tiles=2, length=8)
    out = run(p, height, width, FIELDS, signs=True, backend="cpu")
    assert out.signs is not None
    for t in range(2):
        own = slice(int(p.first[t]), int(p.first[t + 1]))
        in_code = p.field[own] >= 0
        on = out.signs[own][in_code & (p.kind[own] <= FOLD)]
        key = p.key[own][in_code & (p.kind[own] <= FOLD)]
        assert torch.equal(out.right[t].sum(0), (on[:, :-1, :-1] != on[:, :-1, 1:]).sum(0).int())
        assert torch.equal(out.down[t].sum(0), (on[:, :-1, :-1] != on[:, 1:, :-1]).sum(0).int())
        prints = (on[:, :-1, :-1, None] * key[:, None, None]).sum(0) + p.digest[t]
        assert torch.equal(out.digest[t], prints)


def test_the_refusal_names_every_reason() -> None:
    p = random_programs(0)
    with pytest.raises(BackendError, match=r"no backend 'cuda'; it has .*reference"):
        run(p, 2, 2, FIELDS, backend="cuda")
    with pytest.raises(ValueError, match="height, width, fields must be positive, got 0, 2, 3"):
        run(p, 0, 2, FIELDS)
    with pytest.raises(ValueError, match=r"coefficient must be float64, got float32\[\d+\]@cpu"):
        run(dataclasses.replace(p, coefficient=p.coefficient.float()), 2, 2, FIELDS)


def test_cost_counts_compulsory_work() -> None:
    p = one_kink(KINK, 0.0, 1.0, 2.0)
    c = cost(p, 2, 3, fields=2)
    assert (c.bytes, c.flops) == (12 * 3 + 6 * (16 + 4 + 4 + 16), 2 * 3 * 12)
