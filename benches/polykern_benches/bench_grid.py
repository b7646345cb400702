"""One layer of anchored evaluation, tile by tile."""

from collections.abc import Sequence
from typing import Any

import torch

from polykern_benches._harness import Case, Setting, main, same
from polykern_kernels import grid
from polykern_kernels.grid import GridTotals

KINDS: dict[str, tuple[list[float], list[float]]] = {
    "relu": ([0.0], [0.0, 1.0]),
    "relu6": ([0.0, 6.0], [0.0, 1.0, 0.0]),
}


def cases(setting: Setting) -> list[Case]:
    """Tiles of 16 x 16 pixels of a layer of 4096 units; neighbouring pixels differ in a unit or two."""
    groups = setting.pick(1024 if setting.device == "cuda" else 16, 2)
    units, side = setting.pick((4096, 16), (100, 4))
    anchor, delta = _tile(groups, side, units, setting.device)
    return [
        _step(anchor, delta, side, "relu"),
        _step(anchor, delta, side, "relu6"),
        _step(anchor.float(), delta, side, "relu"),
        _tally(anchor[:, None].float() + delta, side),
    ]


def _tile(groups: int, side: int, units: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Affine pre-activations over tiles, their slopes a thousandth of their size."""
    rng = torch.Generator().manual_seed(0)
    anchor = torch.randn((groups, units), generator=rng, dtype=torch.float64)
    across, down = 1e-3 * torch.randn((2, groups, 1, units), generator=rng)
    pixel = torch.arange(side) - side / 2
    y, x = (p.reshape(1, -1, 1) for p in torch.meshgrid(pixel, pixel, indexing="ij"))
    return anchor.to(device), (x * across + y * down).to(device)


def _step(anchor: torch.Tensor, delta: torch.Tensor, side: int, kind: str) -> Case:
    groups, units = anchor.shape
    thresholds, slopes = KINDS[kind]
    out = torch.empty_like(delta)

    def run(backend: str, groups: int = groups, out: torch.Tensor = out) -> list[torch.Tensor]:
        total = GridTotals.zeros(groups, side, side, anchor.device)
        options: dict[str, Any] = {"height": side, "width": side, "thresholds": thresholds, "slopes": slopes}
        grid.step(anchor[:groups], delta[:groups], **options, bit_offset=0, total=total, out=out, backend=backend)
        return [out, total.right, total.down, total.margin, total.digest]

    def holds(got: list[torch.Tensor]) -> bool:
        return same([x[:1] for x in got], run("reference", 1, torch.empty_like(out[:1])))

    return Case(
        operation=f"grid.step {kind}",
        shape={"groups": groups, "height": side, "width": side, "units": units},
        dtype=str(anchor.dtype).removeprefix("torch."),
        cost=grid.cost(groups, side, side, units, thresholds=len(thresholds), itemsize=anchor.element_size()),
        ways=grid.IMPLS["step"],
        inputs=(anchor, delta),
        run=run,
        holds=holds,
    )


def _tally(z: torch.Tensor, side: int) -> Case:
    groups, _, units = z.shape

    def run(backend: str, groups: int = groups) -> list[torch.Tensor]:
        total = GridTotals.zeros(groups, side, side, z.device)
        grid.tally(
            z[:groups], height=side, width=side, thresholds=[0.0], bit_offset=0, total=total, backend=backend
        )
        return [total.right, total.down, total.margin, total.digest]

    return Case(
        operation="grid.tally",
        shape={"groups": groups, "height": side, "width": side, "units": units},
        dtype=str(z.dtype).removeprefix("torch."),
        cost=grid.cost_tally(groups, side, side, units, itemsize=z.element_size()),
        ways=grid.IMPLS["tally"],
        inputs=(z,),
        run=run,
        holds=lambda got: same([x[:1] for x in got], run("reference", 1)),
    )


def bench(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    main({"grid": cases}, argv)


if __name__ == "__main__":
    bench()
