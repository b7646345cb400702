"""Tile programs, float64 multiply-adds against the best matrix product."""

import torch
from torch import Tensor

from polykern_benches._harness import Case, Setting, Trial, same
from polykern_kernels import program
from polykern_kernels._cost import Cost
from polykern_kernels.program import FOLD, IMPLS, KINK, Outcome, Programs

SIDE = 64  # pixels of a tile


def cases(setting: Setting) -> list[Case]:
    """Triangular programs: the forms of a zoomed window, of a small network, and of a tile about to be cut."""
    tiles = setting.pick(1024 if setting.device == "cuda" else 32, 2)
    return [_run(setting, tiles, kinks) for kinks in setting.pick((16, 64, 256), (5,))]


def _run(setting: Setting, tiles: int, kinks: int) -> Case:
    side = setting.pick(SIDE, 5)

    def setup() -> Trial:
        programs = triangular(tiles, kinks).to(setting.device)
        alone = first(programs, kinks)
        return Trial(
            inputs=(programs.coefficient,),
            run=lambda backend: program.run(programs, side, side, 1, backend=backend),
            holds=lambda got: same(_bits(got), _bits(program.run(alone, side, side, 1, backend="reference"))),
        )

    one = program.cost(triangular(1, kinks), side, side, 1)
    return Case(
        operation="program.run",
        params={"tiles": tiles, "side": side, "kinks": kinks},
        dtype="float64",
        cost=Cost(bytes=tiles * one.bytes, flops=tiles * one.flops),
        ways=IMPLS,
        setup=setup,
    )


def _bits(out: Outcome) -> list[Tensor]:
    """What must agree bit for bit of the first tile."""
    return [x[0] for x in (out.right, out.down, out.classes, out.digest, out.uncertain)]


def triangular(tiles: int, kinks: int) -> Programs:
    """Programs in which every kink is a form in u, v and all symbols before it."""
    rng = torch.Generator().manual_seed(0)
    lengths = torch.arange(3, 3 + kinks).repeat(tiles)
    start = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    terms = torch.cat([torch.arange(n, dtype=torch.int32) for n in range(3, 3 + kinks)]).repeat(tiles)
    coefficient = torch.randn(len(terms), generator=rng, dtype=torch.float64)
    coefficient[(terms == 1) | (terms == 2)] /= SIDE / 2  # as large at the edge of the tile as the constant
    coefficient[terms > 2] /= kinks**0.5
    number = tiles * kinks
    kind = torch.tensor([KINK, FOLD], dtype=torch.int8).repeat(number)[:number]
    return Programs(
        first=torch.arange(tiles + 1) * kinks,
        kind=kind,
        target=torch.arange(3, 3 + kinks, dtype=torch.int32).repeat(tiles),
        field=torch.zeros(number, dtype=torch.int32),
        key=torch.randint(-(2**63), 2**63 - 1, (number, 2), generator=rng),
        tolerance=torch.full((number,), 1e-12, dtype=torch.float64),
        start=start,
        term=terms,
        coefficient=coefficient,
        symbols=torch.full((tiles,), 3 + kinks, dtype=torch.int32),
        scale=torch.full((tiles,), -1, dtype=torch.int32),
        digest=torch.zeros((tiles, 2), dtype=torch.int64),
        margin=torch.ones(tiles, dtype=torch.float64),
        winner=torch.full((tiles,), -1, dtype=torch.int32),
    )


def first(p: Programs, kinks: int) -> Programs:
    """The first of several programs of equal length."""
    terms = int(p.start[kinks])
    cut = {
        "first": 2,
        "start": kinks + 1,
        **dict.fromkeys(("kind", "target", "field", "key", "tolerance"), kinks),
        **dict.fromkeys(("term", "coefficient"), terms),
        **dict.fromkeys(("symbols", "scale", "digest", "margin", "winner"), 1),
    }
    return Programs(**{name: getattr(p, name)[:size] for name, size in cut.items()})
