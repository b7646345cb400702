"""Cells of tile programs: the polygons into which the kinks of a program cut its tile.

On a cell every symbol is an affine form in (u, v). An instruction  z = sum of coefficient * symbol  is then one as
well, and cuts the cell along  z = 0  if it takes both signs there; behind it the symbol is z or 0 on either part.
What is left in the end are the cells of the arrangement, one affine map each. RIVAL and CLASS cut along  z = the
maximum so far,  and so do rivals that are overtaken later: cells of one region have one `region`.

In float64: a corner is where two computed lines meet. A unit that stays within its instruction's tolerance on one
side of a cell does not cut it, nor does a difference of two forms within 1e-13 of what was added up: then the
earlier one stays the maximum. So a part that is cut off has a point that is certain to be in it. Nor does a line
that leaves less than 1e-12 of the tile on one side: two lines that are one, as a pool's choice between units of
which the same kink is a multiple, differ by rounding, and what lies between them is no cell. Slivers thinner than
these may be missed. The areas of a tile's cells sum to the tile's. Balestriero, Baraniuk 2018, "A Spline Theory of
Deep Networks"; Hanin, Rolnick 2019, "Complexity of Linear Regions in Deep Networks".
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polykern_kernels._cost import Cost
from polykern_kernels._dispatch import Impl, choose, cpu_objection
from polykern_kernels.program import CLASS, FOLD, KINK, NORM, RIVAL, Programs

LOW_V, HIGH_U, HIGH_V, LOW_U = -1, -2, -3, -4  # sides of a tile
NEAR = 1e-13  # a difference of two forms is 0 below this share of what was added up
THIN = 1e-12  # of a tile: no part of a cell is thinner
ZERO = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Cells:
    """Convex polygons, tile after tile; of a tile in the order of their signs, off before on.

    first   int64 (tiles + 1)      first cell of each tile
    start   int64 (cells + 1)      first corner of each cell
    corner  float64 (corners, 2)   (u, v) offsets from the tile's centre, pixels, in the sense that turns u to v
    side    int32 (corners)        what lies on the side from a corner to the cell's next: an instruction, counted
                                   from the tile's first, or a side of the tile: LOW_V, HIGH_U, HIGH_V, LOW_U
    digest  int64 (cells, 2)       fingerprint of the code
    region  int64 (cells)          fingerprint of the kinks that are on and the rivals that won: equal for the cells
                                   of one region of a tile
    winner  int32 (cells)          class, -1 without classes
    area    float64 (cells)        square pixels
    """

    first: Tensor
    start: Tensor
    corner: Tensor
    side: Tensor
    digest: Tensor
    region: Tensor
    winner: Tensor
    area: Tensor


# --- contract -----------------------------------------------------------------------------------


def cut(programs: Programs, height: float, width: float, *, backend: str | None = None) -> Cells:
    """The cells of every tile.

    programs       the tiles, on the CPU
    height, width  of a tile, pixels
    backend        "cpu" | "reference"; None takes the first that can run
    returns        Cells; a tile without instructions is one cell

    Fingerprints, classes, sides and the number of corners are those of the reference; corners agree to rounding.
    Raises ValueError for programs with a NORM, whose boundaries are no lines.
    """
    if not (height > 0 and width > 0):
        raise ValueError(f"cells.cut: height and width must be positive, got {height}, {width}")
    if bool((programs.kind == NORM).any()):
        raise ValueError("cells.cut: behind a norm boundaries are curves, and there are no polygons")
    return choose("cells.cut", IMPLS, backend, programs.coefficient).run(programs, height, width)  # type: ignore[no-any-return]


def cost(programs: Programs, cells: Cells) -> Cost:
    """Read the terms once, write the cells once."""
    return Cost(bytes=12 * len(programs.term) + 20 * len(cells.side) + 44 * len(cells.area))


# --- reference: all cells of a tile, one instruction after the other ---------------------------------


@dataclass(slots=True)
class _Cell:
    """A polygon on its way: corners, the sides behind them, symbols as (1, u, v), fingerprint, what won, class."""

    corners: list[tuple[float, float]]
    sides: list[int]
    forms: dict[int, tuple[float, float, float]]
    digest: tuple[int, int]
    won: dict[int, int]
    winner: int


def _reference(p: Programs, height: float, width: float) -> Cells:
    x, y = width / 2, height / 2
    square = [(-x, -y), (x, -y), (x, y), (-x, y)]
    unit = {0: (1.0, 0.0, 0.0), 1: (0.0, 1.0, 0.0), 2: (0.0, 0.0, 1.0)}
    first, found = [0], []
    for t in range(p.tiles):
        whole = _Cell(
            square, [LOW_V, HIGH_U, HIGH_V, LOW_U], unit, tuple(p.digest[t].tolist()), {}, int(p.winner[t])
        )
        cells = [whole]
        for i in range(int(p.first[t]), int(p.first[t + 1])):
            cells = [part for cell in cells for part in _parts(p, i, i - int(p.first[t]), cell, height, width)]
        found += cells
        first.append(len(found))
    return _gathered(first, found)


def _parts(p: Programs, i: int, name: int, cell: _Cell, height: float, width: float) -> list[_Cell]:
    """A cell behind an instruction: itself, or its part where it is off and that where it is on."""
    kind, target, terms = int(p.kind[i]), int(p.target[i]), slice(int(p.start[i]), int(p.start[i + 1]))
    against = {RIVAL: target, CLASS: -1}.get(kind)
    coefficients, symbols = p.coefficient[terms].tolist(), p.term[terms].tolist()
    forms = [cell.forms.get(s, ZERO) for s in symbols]
    z = _combined(coefficients, forms)
    best = cell.forms.get(against, ZERO) if against is not None else ZERO
    d = tuple(a - b for a, b in zip(z, best, strict=True))
    values = [d[0] + d[1] * u + d[2] * v for u, v in cell.corners]
    slack, above = float(p.tolerance[i]), 0.0
    if against is not None:
        u, v = (max(abs(corner[k]) for corner in cell.corners) for k in (0, 1))
        size = _combined([abs(x) for x in coefficients], [(abs(a), abs(b * u), abs(c * v)) for a, b, c in forms])
        slack = above = NEAR * sum(size)
    slack = max(slack, THIN * (width * abs(d[1]) + height * abs(d[2])))
    if min(values) < -slack and max(values) > slack:
        return [_entered(p, i, _half(cell, values, name, slack, on), z, on) for on in (False, True)]
    return [_entered(p, i, cell, z, min(values) >= -slack and max(values) > above)]


def _combined(coefficients: list[float], forms: list[tuple[float, float, float]]) -> tuple[float, float, float]:
    a, b, c = (sum(x * form[k] for x, form in zip(coefficients, forms, strict=True)) for k in range(3))
    return a, b, c


def _half(cell: _Cell, values: list[float], name: int, slack: float, on: bool) -> _Cell:
    """The part of a polygon where z >= 0, or <= 0; a corner within the slack belongs to both."""
    z = values if on else [-v for v in values]
    corners, sides = [], []
    for k, here in enumerate(z):
        there = z[(k + 1) % len(z)]
        if here >= -slack:
            corners.append(cell.corners[k])
            sides.append(name if here <= slack and there < -slack else cell.sides[k])
        if (here < -slack and there > slack) or (here > slack and there < -slack):
            (x, y), (u, v) = cell.corners[k], cell.corners[(k + 1) % len(z)]
            share = here / (here - there)
            corners.append((x + share * (u - x), y + share * (v - y)))
            sides.append(name if here > slack else cell.sides[k])
    return _Cell(corners, sides, cell.forms, cell.digest, cell.won, cell.winner)


def _entered(p: Programs, i: int, cell: _Cell, z: tuple[float, float, float], on: bool) -> _Cell:
    """The cell with what an instruction gives where its side is known."""
    kind, target = int(p.kind[i]), int(p.target[i])
    forms, digest, won, winner = dict(cell.forms), cell.digest, dict(cell.won), cell.winner
    if kind in (KINK, FOLD):
        a, b, c = z if kind == KINK else (-z[0], -z[1], -z[2])
        forms[target] = (a, b, c) if on == (kind == KINK) else (0.0, 0.0, 0.0)
        if on:
            won[-2 - i] = i + 1  # a kink that is on
            digest = _sum(digest[0], int(p.key[i, 0])), _sum(digest[1], int(p.key[i, 1]))
    elif on:
        against = target if kind == RIVAL else -1
        forms[against], won[against] = z, i + 1
        winner = target if kind == CLASS else winner
    return _Cell(cell.corners, cell.sides, forms, digest, won, winner)


def _sum(a: int, b: int) -> int:
    """Modulo 2**64, signed."""
    return (a + b + 2**63) % 2**64 - 2**63


def _mixed(x: int) -> int:
    """SplitMix64."""
    z = x * 0x9E3779B97F4A7C15 % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def _gathered(first: list[int], cells: list[_Cell]) -> Cells:
    counts = torch.tensor([0, *(len(c.sides) for c in cells)])
    area = [
        sum(x * v - u * y for (x, y), (u, v) in zip(c.corners, c.corners[1:] + c.corners[:1], strict=True)) / 2
        for c in cells
    ]
    return Cells(
        first=torch.tensor(first),
        start=counts.cumsum(0),
        corner=torch.tensor([xy for c in cells for xy in c.corners], dtype=torch.float64).reshape(-1, 2),
        side=torch.tensor([s for c in cells for s in c.sides], dtype=torch.int32),
        digest=torch.tensor([c.digest for c in cells], dtype=torch.int64).reshape(-1, 2),
        region=torch.tensor([_sum(0, sum(map(_mixed, c.won.values()))) for c in cells], dtype=torch.int64),
        winner=torch.tensor([c.winner for c in cells], dtype=torch.int32),
        area=torch.tensor(area, dtype=torch.float64),
    )


# --- cpu: numba, `_numba.cells`, a cell at a time ------------------------------------------------------

ROOM = 1 << 12  # cells to begin with; what does not fit is made again with twice as much
CORNERS = 6  # of a cell, on the average less


def _cpu(p: Programs, height: float, width: float) -> Cells:
    from polykern_kernels._numba import cells as loops

    run: Any = loops.cut
    lists = "first", "kind", "target", "key", "tolerance", "start", "term", "coefficient"
    given = [getattr(p, name).numpy() for name in (*lists, "symbols", "digest", "winner")]
    first, made, tile, room = np.zeros(p.tiles + 1, np.int64), np.zeros(1, np.int64), 0, ROOM
    columns = _room(room)
    while True:
        tile = run(*given, height, width, tile, *columns, made, first)
        if tile == p.tiles:
            break
        room *= 2
        columns = tuple(_copied(old, new) for old, new in zip(columns, _room(room), strict=True))
    n = int(made[0])
    start, corner, side, digest, region, winner, area = (torch.from_numpy(c) for c in columns)
    last = int(start[n])
    return Cells(
        torch.from_numpy(first), start[: n + 1].clone(), corner[:last].clone(), side[:last].clone(),
        digest[:n].clone(), region[:n].clone(), winner[:n].clone(), area[:n].clone(),
    )  # fmt: skip


def _room(cells: int) -> tuple[np.ndarray, ...]:
    return (
        np.zeros(cells + 1, np.int64), np.empty((CORNERS * cells, 2)), np.empty(CORNERS * cells, np.int32),
        np.empty((cells, 2), np.int64), np.empty(cells, np.int64), np.empty(cells, np.int32), np.empty(cells),
    )  # fmt: skip


def _copied(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    new[: len(old)] = old
    return new


IMPLS = (Impl("cpu", _cpu, cpu_objection), Impl("reference", _reference, cpu_objection))
