"""breakpoints.along: both backends agree, and between two breakpoints all points of a tile have the same signs."""

import dataclasses
from fractions import Fraction

import pytest
import torch

from polykern_kernels import breakpoints, program
from polykern_kernels.breakpoints import Breakpoints
from polykern_kernels.program import CLASS, FOLD, KINK, NORM, RIVAL, Programs
from tests.kernels.test_program import random_programs

WIDTH = 6.0
EXACT = ("first", "instruction", "up", "winner", "on", "classes")


def certain(p: Programs, tolerance: float = 1e-12) -> Programs:
    """The same programs with other tolerances, every kink a bit."""
    field = torch.where(p.kind <= FOLD, 0, -1).to(torch.int32)
    return dataclasses.replace(p, tolerance=torch.full_like(p.tolerance, tolerance), field=field)


def chain(*forms: tuple[int, list[float]]) -> Programs:
    """One tile: each instruction's kind and its coefficients of 1, u, v and the symbols so far."""
    n = len(forms)
    lengths = torch.tensor([0, *(len(c) for _, c in forms)])
    return Programs(
        first=torch.tensor([0, n]),
        kind=torch.tensor([k for k, _ in forms], dtype=torch.int8),
        target=torch.arange(3, 3 + n, dtype=torch.int32),
        field=torch.zeros(n, dtype=torch.int32),
        key=torch.arange(2 * n).reshape(-1, 2),
        tolerance=torch.full((n,), 1e-12, dtype=torch.float64),
        start=lengths.cumsum(0),
        term=torch.tensor([k for _, c in forms for k in range(len(c))], dtype=torch.int32),
        coefficient=torch.tensor([x for _, c in forms for x in c], dtype=torch.float64),
        symbols=torch.tensor([3 + n], dtype=torch.int32),
        scale=torch.tensor([-1], dtype=torch.int32),
        digest=torch.zeros((1, 2), dtype=torch.int64),
        margin=torch.ones(1, dtype=torch.float64),
        winner=torch.tensor([-1], dtype=torch.int32),
    )


def require_equal(ours: Breakpoints, theirs: Breakpoints) -> None:
    for name in EXACT:
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
        assert getattr(ours, name).dtype == getattr(theirs, name).dtype
    for name in ("at", "z"):
        assert torch.allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-10, atol=1e-10), name


def test_both_agree() -> None:
    seen = 0
    for seed in range(20):
        for p in (random_programs(seed), certain(random_programs(seed))):
            ours, theirs = (breakpoints.along(p, WIDTH, backend=name) for name in ("cpu", "reference"))
            require_equal(ours, theirs)
            seen += len(ours.at)
    assert seen > 500


@pytest.mark.parametrize("seed", range(12))
def test_signs_and_classes_between_breakpoints_are_those_of_the_program(seed: int) -> None:
    """Against `program.run`, which knows nothing of intervals, at the points of a fine row."""
    p = certain(random_programs(seed))
    n = 240  # u = (column - n / 2) / 40
    fine = _magnified(p, 40.0)
    run = program.run(fine, 2, n, 1, signs=True, backend="reference")
    assert run.signs is not None
    found = breakpoints.along(p, WIDTH)
    u = (torch.arange(n + 1, dtype=torch.float64) - n / 2) / 40
    for t in range(p.tiles):
        mine = slice(int(found.first[t]), int(found.first[t + 1]))
        at, which = found.at[mine], found.instruction[mine]
        assert (at.diff() >= 0).all()
        assert (at.abs() < WIDTH / 2).all()
        for i in range(int(p.first[t]), int(p.first[t + 1])):
            if p.kind[i] > FOLD:
                continue
            ups, places = found.up[mine][which == i], at[which == i]
            assert bool((ups[1:] != ups[:-1]).all())  # up and down by turns
            passed = (places[None] < u[:, None]).sum(1) % 2 == 1
            assert torch.equal(found.on[i, 0] ^ passed, run.signs[i, 1])  # the row v = 0
            assert bool(found.on[i, 1]) == bool(passed[-1] ^ found.on[i, 0])
        changes = p.kind[which] == CLASS
        index = (at[changes][None] < u[:-1, None]).sum(1)
        classes = torch.cat([found.classes[t, :1], found.winner[mine][changes]])
        assert torch.equal(classes[index], run.classes[t, 1])


def _magnified(p: Programs, factor: float) -> Programs:
    """The same programs where u and v count `factor` to a pixel."""
    coefficient = p.coefficient.clone()
    norm = (p.kind == NORM).repeat_interleave(p.start.diff())
    linear = (p.term == 1) | (p.term == 2)
    coefficient[linear] /= factor
    coefficient[norm & (p.term >= 3)] /= factor**2
    return dataclasses.replace(p, coefficient=coefficient)


def test_a_chain_has_the_breakpoints_of_its_fractions() -> None:
    """max(0, 1 + 2u), then 3/4 - e, then 1/4 - |that|: zeros at -1/2, -1/8, and where 1/4 is reached."""
    p = chain((KINK, [1.0, 2.0]), (KINK, [0.75, 0.0, 0.0, -1.0]), (FOLD, [0.25, 0.0, 0.0, 0.0, -1.0]))
    for backend in ("cpu", "reference"):
        found = breakpoints.along(p, 4.0, backend=backend)
        assert found.instruction.tolist() == [0, 2, 1]
        assert found.at.tolist() == [float(Fraction(-1, 2)), float(Fraction(-1, 4)), float(Fraction(-1, 8))]
        assert found.up.tolist() == [True, True, False]


def test_what_is_zero_up_to_rounding_is_off() -> None:
    """relu(u) + relu(-u) - |u| by two kinks and a fold: a sum that cancels, with a rounding error put in."""
    p = chain((KINK, [0.1, 1.0]), (FOLD, [0.1, 1.0]), (KINK, [-0.1 + 1e-17, -1.0, 0.0, 1.0, -1.0]))
    for backend in ("cpu", "reference"):
        found = breakpoints.along(p, 4.0, backend=backend)
        assert found.instruction.tolist() == [0, 1]
        assert found.on[2].tolist() == [False, False]


def test_twins_have_their_breakpoints_at_one_place() -> None:
    p = chain((KINK, [0.3, 1.0]), (KINK, [0.9, 3.0]), (FOLD, [-0.6, -2.0]))
    for backend in ("cpu", "reference"):
        found = breakpoints.along(p, 2.0, backend=backend)
        assert found.instruction.tolist() == [0, 1, 2]
        assert found.up.tolist() == [True, True, False]
        assert (found.at + 0.3).abs().max() < 1e-15


def test_behind_a_norm_there_are_two() -> None:
    """-1.5 + sqrt(1 + u^2): off between the roots of 5/4."""
    p = chain((NORM, [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]), (KINK, [-1.5, 0.0, 0.0, 1.0]))
    for backend in ("cpu", "reference"):
        found = breakpoints.along(p, 6.0, backend=backend)
        assert torch.allclose(found.at, torch.tensor([-1.25, 1.25], dtype=torch.float64).sign() * 1.25**0.5)
        assert found.up.tolist() == [False, True]


def test_winners_of_windows_and_classes() -> None:
    p = chain((RIVAL, [0.5, 1.0]), (RIVAL, [1.0, -1.0]), (CLASS, [-1.5, 1.0]))  # max(0, 1/2 + u, 1 - u)
    p = dataclasses.replace(p, target=torch.tensor([3, 3, 7], dtype=torch.int32))
    for backend in ("cpu", "reference"):
        found = breakpoints.along(p, 8.0, backend=backend)
        assert found.at.tolist() == [0.25, 1.5]
        assert found.instruction.tolist() == [0, 2]
        assert found.winner.tolist() == [-1, 7]
        assert found.classes.tolist() == [[-1, 7]]


def test_many_need_room(monkeypatch: pytest.MonkeyPatch) -> None:
    p = chain(*((KINK, [0.01 * k - 0.5, 1.0]) for k in range(99)))
    roomy = breakpoints.along(p, 2.0)
    monkeypatch.setattr(breakpoints, "ROOM", 7)
    tight = breakpoints.along(p, 2.0)
    assert len(tight.at) == 99
    assert all(torch.equal(getattr(roomy, name), getattr(tight, name)) for name in Breakpoints.__slots__)


def test_nothing() -> None:
    p = chain()
    for backend in ("cpu", "reference"):
        found = breakpoints.along(p, 1.0, backend=backend)
        assert found.first.tolist() == [0, 0]
        assert found.classes.tolist() == [[-1, -1]]


def test_refusal_and_cost() -> None:
    p = chain((KINK, [0.3, 1.0]))
    with pytest.raises(ValueError, match="width must be positive"):
        breakpoints.along(p, 0.0)
    assert breakpoints.cost(p, breakpoints.along(p, 1.0)).bytes == 12 * 2 + 21 + 18 + 16
