"""Breakpoints of tile programs: where the kinks of a program lie along the axis u of its tile.

On an interval without breakpoints every symbol is  a + b u + c s(u)  with s = sqrt(Q(u)) behind a NORM and c = 0
without one. From the left end on, the instructions are run on what is left of the tile,  z = sum of coefficient
* symbol;  one that changes its sign there ends the interval at its first zero. What has another sign in the next
interval has a breakpoint between the two: a bit (KINK, FOLD), the largest member of a max-pool's window (RIVAL),
the class (CLASS). Members that are equal all over an interval are largest together, so that among zeros none
takes over. An affine z has one zero, one with s no more than two, on either side of where it turns.

In float64. A unit that stays within its instruction's tolerance at an end of an interval has its zero there, one
that stays within it all over the interval is off, so that what is zero up to rounding makes no breakpoints; a
difference of two forms is zero within 1e-13 of what was added up. So the breakpoints of a bit have the parity of
the difference of its ends. Balestriero, Baraniuk 2018, "A Spline Theory of Deep Networks".
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polykern_kernels._cost import Cost
from polykern_kernels._dispatch import Impl, choose, cpu_objection
from polykern_kernels.program import CLASS, FOLD, KINK, NORM, RIVAL, Programs

NEAR = 1e-13
HALVINGS = 100  # of a bracket: more than float64 has digits
Form = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Breakpoints:
    """Breakpoints tile after tile, from left to right; at one place in the order of the instructions.

    first        int64 (tiles + 1)          first breakpoint of each tile
    at           float64 (n)                u, pixels from the tile's centre
    instruction  int64 (n)                  which one: of a window the member that wins or has lost, of the classes
                                            the one that wins or has lost
    up           bool (n)                   the bit is on behind it; the member or class is not the centre's winner
    winner       int32 (n)                  class behind it, -1 without classes
    on           bool (instructions, 2)     sign of every kink at the tile's left and right end
    z            float64 (instructions, 2)  its value there
    classes      int32 (tiles, 2)           class at the two ends
    """

    first: Tensor
    at: Tensor
    instruction: Tensor
    up: Tensor
    winner: Tensor
    on: Tensor
    z: Tensor
    classes: Tensor


# --- contract -----------------------------------------------------------------------------------


def along(programs: Programs, width: float, *, backend: str | None = None) -> Breakpoints:
    """The breakpoints of every tile along u, at v = 0.

    programs  the tiles, on the CPU
    width     of a tile, pixels: u runs from -width/2 to width/2
    backend   "cpu" | "reference"; None takes the first that can run
    returns   Breakpoints

    Which breakpoints there are, their order, signs and classes are those of the reference; `at` and `z` agree to
    rounding.
    """
    if not width > 0:
        raise ValueError(f"breakpoints.along: width must be positive, got {width}")
    return choose("breakpoints.along", IMPLS, backend, programs.coefficient).run(programs, width)  # type: ignore[no-any-return]


def cost(programs: Programs, found: Breakpoints) -> Cost:
    """Read the terms once, write the breakpoints and the ends once."""
    return Cost(bytes=12 * len(programs.term) + 21 * len(found.at) + 18 * len(programs.kind) + 16 * programs.tiles)


# --- reference: an interval after the other, all instructions of the tile on each -------------------


def _reference(p: Programs, width: float) -> Breakpoints:
    n = len(p.kind)
    first, rows = [0], []
    on, z = torch.zeros((n, 2), dtype=torch.bool), torch.zeros((n, 2), dtype=torch.float64)
    classes = torch.zeros((p.tiles, 2), dtype=torch.int32)
    for t in range(p.tiles):
        before: _Interval | None = None
        low = -width / 2
        while before is None or low < width / 2:
            now = _Interval(p, t, low, width / 2)
            if before is None:
                on[now.numbers, 0] = torch.tensor(now.on, dtype=torch.bool)
                z[now.numbers, 0] = torch.tensor([now.value(form, low) for form in now.z], dtype=torch.float64)
                classes[t, 0] = now.winner
            else:
                rows += now.behind(before)
            before, low = now, now.high
        on[before.numbers, 1] = torch.tensor(before.on, dtype=torch.bool)
        z[before.numbers, 1] = torch.tensor([before.value(f, width / 2) for f in before.z], dtype=torch.float64)
        classes[t, 1] = before.winner
        first.append(len(rows))
    at, instruction, up, winner = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Breakpoints(
        torch.tensor(first), torch.tensor(at, dtype=torch.float64), torch.tensor(instruction, dtype=torch.int64),
        torch.tensor(up, dtype=torch.bool), torch.tensor(winner, dtype=torch.int32), on, z, classes,
    )  # fmt: skip


class _Interval:
    """A tile's instructions from `low` to the first breakpoint behind it, or to the end."""

    def __init__(self, p: Programs, t: int, low: float, high: float) -> None:
        self.p, self.low, self.high = p, low, high
        self.quadratic: Form = (0.0, 0.0, 0.0)
        self.forms: dict[int, Form] = {0: (1.0, 0.0, 0.0), 1: (0.0, 1.0, 0.0)}
        self.numbers: list[int] = []  # the kinks, with their signs and forms
        self.on: list[bool] = []
        self.z: list[Form] = []
        self.won: dict[int, int] = {}  # symbol of a window, or -1 for the classes -> the instruction that wins
        self.rivals: dict[int, tuple[Form, float]] = {}  # forms of members and classes, and what is 0 in them
        self.winner = int(p.winner[t])
        for i in range(int(p.first[t]), int(p.first[t + 1])):
            self._enter(i)

    def _enter(self, i: int) -> None:
        p, kind, target = self.p, int(self.p.kind[i]), int(self.p.target[i])
        terms = slice(int(p.start[i]), int(p.start[i + 1]))
        coefficients = p.coefficient[terms].tolist()
        if kind == NORM:
            self.quadratic = coefficients[0], coefficients[1], coefficients[3]
            self.forms[target] = (0.0, 0.0, 1.0)
            return
        forms = [self.forms.get(s, (0.0, 0.0, 0.0)) for s in p.term[terms].tolist()]
        z = _combined(coefficients, forms)
        if kind in (KINK, FOLD):
            above = self._side(z, float(p.tolerance[i])) > 0
            self.numbers.append(i)
            self.on.append(above)
            self.z.append(z)
            a, b, c = z if kind == KINK else (-z[0], -z[1], -z[2])
            self.forms[target] = (a, b, c) if above == (kind == KINK) else (0.0, 0.0, 0.0)
            return
        against = target if kind == RIVAL else -1
        best = self.forms.get(against, (0.0, 0.0, 0.0))
        size = sum(abs(x) * self._size(f) for x, f in zip(coefficients, forms, strict=True))
        self.rivals[i] = z, NEAR * size
        side = self._side(_difference(z, best), NEAR * size)
        if side > 0:
            self.forms[against], self.won[against] = z, i
            self.winner = target if kind == CLASS else self.winner

    def value(self, z: Form, u: float) -> float:
        """z at a point."""
        a, b, c = z
        return a + b * u + (c * self._root(u) if c else 0.0)

    def _root(self, u: float) -> float:
        q0, q1, q2 = self.quadratic
        return math.sqrt(max(0.0, q0 + u * (q1 + u * q2)))

    def _size(self, form: Form) -> float:
        a, b, c = form
        return abs(a) + abs(b * self.low) + (abs(c) * self._root(self.low) if c else 0.0)

    def _side(self, z: Form, slack: float) -> int:
        """The sign of z from `low` on, 0 where it is 0 all over; `high` becomes its first zero."""
        points = [self.low, *self._turn(z), self.high]
        values = [self.value(z, u) for u in points]
        side = 0
        for k in range(len(points)):
            here = (values[k] > slack) - (values[k] < -slack)
            if side and here == -side:
                zero = self._zero(z, points[k - 1], points[k], values[k])
                if self.low < zero < self.high:
                    self.high = zero
                break
            side = side or here
        return side

    def _turn(self, z: Form) -> list[float]:
        """Where z, convex or concave behind a norm, turns inside the interval."""
        (_, b, c), (q0, q1, q2) = z, self.quadratic
        if c == 0 or q2 <= 0:
            return []
        k = -b / (c * q2)
        steep = 1 - k * k * q2
        if steep <= 0:
            return []
        u = -q1 / (2 * q2) + k * math.sqrt(max(0.0, q0 - q1 * q1 / (4 * q2)) / steep)
        return [u] if self.low < u < self.high else []

    def _zero(self, z: Form, x: float, y: float, there: float) -> float:
        if z[2] == 0:
            return min(y, max(x, -z[0] / z[1]))
        for _ in range(HALVINGS):
            middle = 0.5 * (x + y)
            x, y = (x, middle) if (self.value(z, middle) > 0) == (there > 0) else (middle, y)
        return 0.5 * (x + y)

    def behind(self, before: "_Interval") -> list[tuple[float, int, bool, int]]:
        """What differs from the interval before: rows of at, instruction, up, winner."""
        rows = [
            (i, on) for i, was, on in zip(self.numbers, before.on, self.on, strict=True) if was != on
        ]  # the same kinks in every interval of a tile
        windows = sorted({*self.won, *before.won} - {-1})
        for w in [*windows, *([-1] if self.winner != before.winner else [])]:
            was, now = before.won.get(w, -1), self.won.get(w, -1)
            if was != now and not (self._largest(was, now, w) or before._largest(now, was, w)):
                rows.append((now if now >= 0 else was, now >= 0))
        return [(self.low, i, up, self.winner) for i, up in rows]

    def _largest(self, member: int, winner: int, window: int) -> bool:
        """Whether a member of a window (-1: the centre's winner) equals its winner all over the interval."""
        if window < 0:
            return False
        form, slack = self.rivals[member] if member >= 0 else ((0.0, 0.0, 0.0), self.rivals[winner][1])
        left = _difference(form, self.forms.get(window, (0.0, 0.0, 0.0)))
        return all(abs(self.value(left, u)) <= slack for u in (self.low, self.high))


def _difference(a: Form, b: Form) -> Form:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def _combined(coefficients: list[float], forms: list[Form]) -> Form:
    a, b, c = (sum(x * form[k] for x, form in zip(coefficients, forms, strict=True)) for k in range(3))
    return a, b, c


# --- cpu: numba, `_numba.breakpoints` ---------------------------------------------------------------

ROOM = 1 << 12  # breakpoints to begin with; what does not fit is made again with twice as much


def _cpu(p: Programs, width: float) -> Breakpoints:
    from polykern_kernels._numba import breakpoints as loops

    run: Any = loops.along
    lists = "first", "kind", "target", "tolerance", "start", "term", "coefficient", "symbols", "winner"
    given = [getattr(p, name).numpy() for name in lists]
    n, room = len(p.kind), ROOM
    first, on, z = np.zeros(p.tiles + 1, np.int64), np.zeros((n, 2), np.bool_), np.zeros((n, 2))
    classes = np.zeros((p.tiles, 2), np.int32)
    columns = _room(room)
    tile = 0
    while True:
        tile = run(*given, width, tile, *columns, first, on, z, classes)
        if tile == p.tiles:
            break
        room *= 2
        columns = tuple(_copied(old, new) for old, new in zip(columns, _room(room), strict=True))
    made = int(first[-1])
    at, instruction, up, winner = (torch.from_numpy(c)[:made].clone() for c in columns)
    rest = (torch.from_numpy(c) for c in (on, z, classes))
    return Breakpoints(torch.from_numpy(first), at, instruction, up, winner, *rest)


def _room(points: int) -> tuple[np.ndarray, ...]:
    return np.empty(points), np.empty(points, np.int64), np.empty(points, np.bool_), np.empty(points, np.int32)


def _copied(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    new[: len(old)] = old
    return new


IMPLS = (Impl("cpu", _cpu, cpu_objection), Impl("reference", _reference, cpu_objection))
