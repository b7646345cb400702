"""Sides that two polygons share, and the hulls of polygons in pieces."""

import math

import torch
from torch import Tensor

from polykern_benches._harness import Case, Setting, Trial, same
from polykern_kernels import outlines

AGAIN = 200  # polygons and lines that the reference does
SIDES = 40  # of a line
NEAR = 1e-9


def cases(setting: Setting) -> list[Case]:
    """As many as a batch of tiles has."""
    if setting.device != "cpu":
        return []
    return [_hulls(setting.pick(100_000, 20)), _pairs(setting.pick(10_000, 5))]


def _hulls(polygons: int) -> Case:
    def setup() -> Trial:
        first, corner = _polygons(polygons)
        few = first[: AGAIN + 1]
        want = outlines.hulls(few, corner[: few[-1]], backend="reference")

        def holds(got: tuple[Tensor, Tensor]) -> bool:
            begins = got[0][: len(few)]
            return same((begins, got[1][: begins[-1]]), want)

        return Trial((corner,), lambda backend: outlines.hulls(first, corner, backend=backend), holds)

    return Case(
        operation="outlines.hulls",
        params={"polygons": polygons},
        dtype="float64",
        cost=outlines.cost(polygons, 6 * polygons, 6 * polygons),
        ways=outlines.IMPLS["hulls"],
        setup=setup,
    )


def _pairs(lines: int) -> Case:
    def setup() -> Trial:
        line, ends = _sides(lines)
        few = line < AGAIN

        def holds(got: Tensor) -> bool:
            number = few.cumsum(0) - 1
            mine = got[few[got[:, 0]]]
            return same(number[mine], outlines.pairs(line[few], ends[few], NEAR, backend="reference"))

        return Trial((ends,), lambda backend: outlines.pairs(line, ends, NEAR, backend=backend), holds)

    sides = 2 * SIDES * lines
    return Case(
        operation="outlines.pairs",
        params={"lines": lines, "sides": sides},
        dtype="float64",
        cost=outlines.cost_pairs(sides, sides // 2),
        ways=outlines.IMPLS["pairs"],
        setup=setup,
    )


def _polygons(n: int) -> tuple[Tensor, Tensor]:
    """Hexagons, their corners in any order."""
    generator = torch.Generator().manual_seed(0)
    turn = (torch.arange(6) + torch.rand(n, 6, generator=generator, dtype=torch.float64)) * (math.pi / 3)
    order = torch.rand(n, 6, generator=generator).argsort(1)
    corner = torch.stack([turn.cos(), turn.sin()], 2).take_along_dim(order[..., None], 1)
    return 6 * torch.arange(n + 1), corner.reshape(-1, 2).contiguous()


def _sides(n: int) -> tuple[Tensor, Tensor]:
    """Sides along lines, each in both senses, in any order."""
    generator = torch.Generator().manual_seed(0)
    base, way = torch.randn(2, n, 1, 2, generator=generator, dtype=torch.float64)
    along = torch.arange(SIDES + 1, dtype=torch.float64)[:, None] / SIDES
    corner = base + along * way
    one = torch.stack([corner[:, :-1], corner[:, 1:]], 2).reshape(-1, 2, 2)
    order = torch.randperm(2 * len(one), generator=generator)
    line = torch.arange(n).repeat_interleave(SIDES).repeat(2)
    return line[order], torch.cat([one, one.flip(1)])[order].contiguous()
