"""Flips of a GPT-2 MLP's units on a plane, without visiting every pixel."""

import torch

from polykern_benches._harness import Case, Setting, Trial, same
from polykern_kernels import scanline
from polykern_kernels.scanline import IMPLS, Curves, Lattice

CHECKED = 3  # rows the reference repeats


def cases(setting: Setting) -> list[Case]:
    """Lines, and conics behind a LayerNorm."""
    if setting.device != "cpu":
        return []
    bits, side = setting.pick((3072, 1024), (20, 9))
    return [_crossings(bits, side, bent) for bent in (False, True)]


def _crossings(bits: int, side: int, bent: bool) -> Case:
    def setup() -> Trial:
        rng = torch.Generator().manual_seed(0)
        axis = (torch.arange(side + 1, dtype=torch.float64) + 0.5) * 4 / side - 2
        radius = (1 + bent * (axis.square() + axis.square()[:, None])).sqrt()
        at = Lattice(axis, axis, radius, 1e-15)
        curves = Curves(
            torch.randn((bits, 3), generator=rng, dtype=torch.float64),
            torch.randn(bits, generator=rng, dtype=torch.float64) * bent,
            torch.randint(-(2**63), 2**63 - 1, (bits, 2), generator=rng),
            torch.zeros(bits, dtype=torch.int32),
            torch.zeros(bits, dtype=torch.float64),
        )
        few = Lattice(axis, axis[: CHECKED + 1], radius[: CHECKED + 1], 1e-15)
        return Trial(
            inputs=(curves.coefficient,),
            run=lambda backend: scanline.crossings(curves, at, 1, backend=backend),
            holds=lambda got: same(
                [got[0][:, :CHECKED], got[1][:, :CHECKED], got[2][:CHECKED]],
                scanline.crossings(curves, few, 1, backend="reference"),
            ),
        )

    return Case(
        operation="scanline.crossings",
        params={"kind": "conics" if bent else "lines", "bits": bits, "height": side, "width": side},
        dtype="float64",
        cost=scanline.cost(bits, side, side, 1),
        ways=IMPLS["crossings"],
        setup=setup,
    )
