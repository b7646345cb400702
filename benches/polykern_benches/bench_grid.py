"""One layer of anchored evaluation, tile by tile."""

from typing import Any

import torch
from torch import Tensor

from polykern_benches._harness import Case, Setting, Trial, same
from polykern_kernels import grid
from polykern_kernels.grid import GridTotals

KINDS: dict[str, tuple[list[float], list[float]]] = {
    "relu": ([0.0], [0.0, 1.0]),
    "relu6": ([0.0, 6.0], [0.0, 1.0, 0.0]),
}


Size = tuple[int, int, int]  # groups, pixels a side, units


def cases(setting: Setting) -> list[Case]:
    """Tiles of 16 x 16 pixels of a layer of 4096 units; neighbouring pixels differ in a unit or two."""
    size = setting.pick((1024 if setting.device == "cuda" else 16, 16, 4096), (2, 4, 100))
    return [
        _step(setting, size, torch.float64, "relu"),
        _step(setting, size, torch.float64, "relu6"),
        _step(setting, size, torch.float32, "relu"),
        _tally(setting, size),
    ]


def _params(size: Size) -> dict[str, int | float | str]:
    groups, side, units = size
    return {"groups": groups, "height": side, "width": side, "units": units}


def _tile(size: Size, device: str) -> tuple[Tensor, Tensor]:
    """Affine pre-activations over tiles, their slopes a thousandth of their size."""
    groups, side, units = size
    rng = torch.Generator().manual_seed(0)
    anchor = torch.randn((groups, units), generator=rng, dtype=torch.float64).to(device)
    across, down = (1e-3 * torch.randn((2, groups, 1, units), generator=rng)).to(device)
    pixel = torch.arange(side, device=device) - side / 2
    y, x = (p.reshape(1, -1, 1) for p in torch.meshgrid(pixel, pixel, indexing="ij"))
    return anchor, (x * across).add_(y * down)


def _step(setting: Setting, size: Size, dtype: torch.dtype, kind: str) -> Case:
    groups, side, units = size
    thresholds, slopes = KINDS[kind]

    def setup() -> Trial:
        anchor, delta = _tile(size, setting.device)
        anchor = anchor.to(dtype)
        out = torch.empty_like(delta)
        options: dict[str, Any] = {"height": side, "width": side, "thresholds": thresholds, "slopes": slopes}

        def run(backend: str, groups: int = groups, out: Tensor = out) -> list[Tensor]:
            total = GridTotals.zeros(groups, side, side, anchor.device)
            few = anchor[:groups], delta[:groups]
            grid.step(*few, **options, bit_offset=0, total=total, out=out, backend=backend)
            return [out, total.right, total.down, total.margin, total.digest]

        def holds(got: list[Tensor]) -> bool:
            return same([x[:1] for x in got], run("reference", 1, torch.empty_like(out[:1])))

        return Trial((anchor, delta), run, holds)

    return Case(
        operation="grid.step",
        params={"kind": kind, **_params(size)},
        dtype=str(dtype).removeprefix("torch."),
        cost=grid.cost(groups, side, side, units, thresholds=len(thresholds), itemsize=dtype.itemsize),
        ways=grid.IMPLS["step"],
        setup=setup,
        precision=str(dtype).removeprefix("torch."),
    )


def _tally(setting: Setting, size: Size) -> Case:
    groups, side, units = size

    def setup() -> Trial:
        anchor, delta = _tile(size, setting.device)
        z = anchor[:, None].float() + delta

        def run(backend: str, groups: int = groups) -> list[Tensor]:
            total = GridTotals.zeros(groups, side, side, z.device)
            options: dict[str, Any] = {"height": side, "width": side, "thresholds": [0.0], "bit_offset": 0}
            grid.tally(z[:groups], **options, total=total, backend=backend)
            return [total.right, total.down, total.margin, total.digest]

        return Trial((z,), run, lambda got: same([x[:1] for x in got], run("reference", 1)))

    return Case(
        operation="grid.tally",
        params=_params(size),
        dtype="float32",
        cost=grid.cost_tally(groups, side, side, units, itemsize=4),
        ways=grid.IMPLS["tally"],
        setup=setup,
        precision="float32",
    )
