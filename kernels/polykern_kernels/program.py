"""Tile programs: what is left of a piecewise-linear network inside one tile of a plane, run at every pixel.

A program is a list of instructions over symbols. Symbols 0, 1, 2 are 1, u, v; u and v are pixel offsets from
the tile's centre. Every instruction evaluates  z = sum of coefficient * symbol  and then

    KINK   bit = z > 0,  symbol[target] = max(0, z)      a unit that is off at the centre
    FOLD   bit = z > 0,  symbol[target] = max(0, -z)     a unit that is on at the centre
    RIVAL  symbol[target] = max(symbol[target], z)       a member of a max-pool window above its winner
    CLASS  target becomes the class if z exceeds 0 and all earlier candidates; ties go to the smaller class
    NORM   symbol[target] = sqrt(z), z a quadratic in (u, v): terms 0..5 are 1, u, v, uu, uv, vv

All in float64. Bits outside the program are constant in the tile: they take no part in the counts and enter
the fingerprint and the margin through the tile's base values. A KINK or FOLD whose field is -1 is no bit of the
code: it only writes its symbol, and its signs stay False. Exactness: a bit is certain when |z| exceeds the
instruction's tolerance; `uncertain` counts those that are not.
"""

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from polykern_kernels._cost import Cost
from polykern_kernels._dispatch import backends, choose, describe

KINK, FOLD, RIVAL, CLASS, NORM = range(5)


@dataclass(frozen=True, slots=True)
class Programs:
    """Programs of many tiles, instructions tile after tile in order of execution.

    first        int64 (tiles + 1)      first instruction of each tile
    kind         int8 (instructions)    KINK, FOLD, RIVAL, CLASS or NORM
    target       int32 (instructions)   symbol that is written, or the class
    field        int32 (instructions)   field of the bit; -1: the sign is not part of the code
    key          int64 (instructions, 2) fingerprint key of the bit
    tolerance    float64 (instructions) error bound of z
    start        int64 (instructions + 1) first term of each instruction
    term         int32 (terms)          symbol of each term
    coefficient  float64 (terms)
    symbols      int32 (tiles)          symbols of each tile, 1, u, v among them
    scale        int32 (tiles)          symbol by which every z is scaled (NORM), or -1
    digest       int64 (tiles, 2)       fingerprint of the bits that are constant
    margin       float64 (tiles)        certified smallest |pre-activation - threshold| of the constant bits
    winner       int32 (tiles)          class at the centre, -1 without classes
    """

    first: Tensor
    kind: Tensor
    target: Tensor
    field: Tensor
    key: Tensor
    tolerance: Tensor
    start: Tensor
    term: Tensor
    coefficient: Tensor
    symbols: Tensor
    scale: Tensor
    digest: Tensor
    margin: Tensor
    winner: Tensor

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return len(self.symbols)

    def to(self, device: torch.device | str) -> "Programs":
        """The same programs on another device."""
        return Programs(*(getattr(self, name).to(device) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run gives for tiles of height x width pixels.

    right, down  int32 (tiles, fields, height, width)   bits that differ from the right / lower neighbour
    classes      int32 (tiles, height, width)           -1 without classes
    margin       float32 (tiles, height, width)         certified lower bound of |pre-activation - threshold|
    digest       int64 (tiles, height, width, 2)        fingerprints
    uncertain    int64 (tiles)                          bits with |z| <= tolerance
    signs        bool (instructions, height + 1, width + 1) when asked for, else None
    """

    right: Tensor
    down: Tensor
    classes: Tensor
    margin: Tensor
    digest: Tensor
    uncertain: Tensor
    signs: Tensor | None

    def of(self, tiles: Tensor) -> "Outcome":
        """Of some of the tiles, int64 numbers, without signs."""
        maps = (self.right, self.down, self.classes, self.margin, self.digest, self.uncertain)
        right, down, classes, margin, digest, uncertain = (x[tiles] for x in maps)
        return Outcome(right, down, classes, margin, digest, uncertain, None)


# --- contract -----------------------------------------------------------------------------------


def run(
    programs: Programs, height: int, width: int, fields: int, *, signs: bool = False, backend: str | None = None
) -> Outcome:
    """Run every program at every pixel of its tile and of the next row and column.

    programs       the tiles
    height, width  pixels of a tile; offsets run from -width/2 to width/2 and -height/2 to height/2,
                   one pixel further than the maps, so that seams between tiles need no care
    fields         number of fields of the code
    signs          also return the sign of every instruction at every pixel
    backend        "triton" | "cpu" | "reference"; None takes the first that can run
    """
    _check(programs, height, width, fields)
    chosen = choose("program.run", IMPLS, backend, programs.coefficient)
    return chosen.run(programs, height, width, fields, signs)  # type: ignore[no-any-return]


def cost(programs: Programs, height: int, width: int, fields: int) -> Cost:
    """Read the terms once, write the maps once; one multiply-add a term and pixel."""
    points, pixels = (height + 1) * (width + 1), height * width
    wrote = programs.tiles * pixels * (8 * fields + 4 + 4 + 16)
    return Cost(bytes=12 * len(programs.term) + wrote, flops=2 * len(programs.term) * points)


def _check(programs: Programs, height: int, width: int, fields: int) -> None:
    if height < 1 or width < 1 or fields < 1:
        raise ValueError(f"program.run: height, width, fields must be positive, got {height}, {width}, {fields}")
    for name, dtype in (("coefficient", torch.float64), ("term", torch.int32), ("start", torch.int64)):
        if getattr(programs, name).dtype != dtype:
            raise ValueError(
                f"program.run: {name} must be {str(dtype)[6:]}, got {describe(getattr(programs, name))}"
            )


# --- reference: one instruction after the other, all pixels of a tile at once ---------------------


def _reference(p: Programs, height: int, width: int, fields: int, keep: bool) -> Outcome:
    out = blank(p, height, width, fields, keep)
    device = p.coefficient.device
    v, u = torch.meshgrid(
        torch.arange(height + 1, dtype=torch.float64, device=device) - height / 2,
        torch.arange(width + 1, dtype=torch.float64, device=device) - width / 2,
        indexing="ij",
    )
    for t in range(p.tiles):
        symbol = torch.zeros((int(p.symbols[t]), height + 1, width + 1), dtype=torch.float64, device=device)
        symbol[0], symbol[1], symbol[2] = 1.0, u, v
        quadratic = torch.stack([symbol[0], u, v, u * u, u * v, v * v])
        digest = p.digest[t].expand(height + 1, width + 1, 2).clone()
        margin = torch.full_like(u, torch.inf)
        best, winner = torch.zeros_like(u), torch.full_like(u, int(p.winner[t]), dtype=torch.int32)
        for i in range(int(p.first[t]), int(p.first[t + 1])):
            kind, target = int(p.kind[i]), int(p.target[i])
            base = quadratic if kind == NORM else symbol
            z = torch.zeros_like(u)
            for k in range(int(p.start[i]), int(p.start[i + 1])):
                z = z + p.coefficient[k] * base[p.term[k]]
            if kind == NORM:
                symbol[target] = z.clamp(min=0).sqrt()
            elif kind == RIVAL:
                symbol[target] = torch.maximum(symbol[target], z)
            elif kind == CLASS:
                winner[(z > best) | ((z == best) & (target < winner))] = target
                best = torch.maximum(best, z)
            else:
                symbol[target] = (z if kind == KINK else -z).clamp(min=0)
                if int(p.field[i]) < 0:
                    continue
                on = z > 0
                digest += on[..., None] * p.key[i]
                scale = symbol[p.scale[t]] if int(p.scale[t]) >= 0 else 1.0
                slack = z.abs() - p.tolerance[i]
                margin = torch.minimum(margin, slack.clamp(min=0) / scale)
                out.uncertain[t] += (slack <= 0)[:height, :width].sum()
                f = int(p.field[i])
                out.right[t, f] += on[:-1, :-1] != on[:-1, 1:]
                out.down[t, f] += on[:-1, :-1] != on[1:, :-1]
                if out.signs is not None:
                    out.signs[i] = on
        out.classes[t], out.digest[t] = winner[:-1, :-1], digest[:-1, :-1]
        out.margin[t] = margin[:-1, :-1].clamp(max=float(p.margin[t]))
    return out


def blank(p: Programs, height: int, width: int, fields: int, keep: bool) -> Outcome:
    """An outcome of zeros, with room for signs if they are kept."""
    make = functools.partial(torch.zeros, device=p.coefficient.device)
    maps = (p.tiles, height, width)
    counts = (p.tiles, fields, height, width)
    return Outcome(
        right=make(counts, dtype=torch.int32),
        down=make(counts, dtype=torch.int32),
        classes=make(maps, dtype=torch.int32),
        margin=make(maps, dtype=torch.float32),
        digest=make((*maps, 2), dtype=torch.int64),
        uncertain=make(p.tiles, dtype=torch.int64),
        signs=make((len(p.kind), height + 1, width + 1), dtype=torch.bool) if keep else None,
    )


# --- cpu: one thread, pixels in chunks that keep the symbols in cache ------------------------------


def _cpu(p: Programs, height: int, width: int, fields: int, keep: bool) -> Outcome:
    from polykern_kernels._numba import program as loops

    loop: Any = loops.run
    out = blank(p, height, width, fields, keep)
    signs = out.signs if out.signs is not None else torch.zeros((1, 1, 1), dtype=torch.bool)
    given = (getattr(p, name) for name in Programs.__slots__)
    wanted = (out.right, out.down, out.classes, out.margin, out.digest, out.uncertain, signs)
    loop(*(x.numpy() for x in given), height, width, *(x.numpy() for x in wanted), keep)
    return out


IMPLS = backends("program", "run", cpu=_cpu, reference=_reference)
