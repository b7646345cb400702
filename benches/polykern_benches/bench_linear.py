"""Linear layers and their codes in one pass, beside torch's product and a pass over what it wrote."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from polykern_benches._harness import Case, Setting, Trial, same
from polykern_kernels import linear, narrow, pack
from polykern_kernels._dispatch import Impl
from polykern_kernels.grid import GridTotals

APART = Impl("apart", lambda: None, lambda *args: None)  # torch's product, then the pass over its result
RELU: dict[str, Any] = {"thresholds": [0.0], "slopes": [0.0, 1.0]}
CHECKED = 64  # rows that are computed again


def cases(setting: Setting) -> list[Case]:
    """A narrow layer, whose traffic costs as much as its products, and a wide one; tiles of 16 x 16 pixels."""
    if setting.small:
        return [_signs(setting, 40, 12, 70), _step(setting, 2, 3, 12, 70)]
    if setting.device != "cuda":
        return []  # the reference alone runs there
    rows, tiles = 1 << 18, 1024
    return [
        _signs(setting, rows, 64, 1024),
        _signs(setting, rows, 1024, 1024),
        _step(setting, tiles, 17, 256, 1024),
        _step(setting, tiles, 17, 1024, 1024),
    ]


def _whole(shape: tuple[int, ...], largest: int, seed: int) -> Tensor:
    """Small integers, whose products have exact sums."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(-largest, largest + 1, shape, generator=rng).float()


def _signs(setting: Setting, rows: int, inputs: int, units: int) -> Case:
    def setup() -> Trial:
        x, weight, bias = (
            _whole(shape, 4, k).to(setting.device)
            for k, shape in enumerate([(rows, inputs), (units, inputs), (units,)])
        )

        def run(way: str) -> tuple[Tensor, Tensor]:
            if way == "apart":
                z = F.linear(x, weight, bias)
                return pack.signs(z)[0], F.relu(z)
            words, out = linear.signs(x, weight, bias, **RELU, backend=way)
            assert out is not None
            return words, out

        def holds(got: tuple[Tensor, Tensor]) -> bool:
            want = linear.signs(x[:CHECKED], weight, bias, **RELU, backend="reference")
            return same([part[:CHECKED] for part in got], list(want))

        return Trial((x, weight), run, holds)

    return Case(
        operation="linear.signs",
        params={"rows": rows, "inputs": inputs, "units": units},
        dtype="float32",
        cost=linear.cost(rows, inputs, units, activated=True),
        ways=linear.IMPLS["signs"],
        setup=setup,
        peers=(APART,),
        memory=12 * rows * (inputs + units),
        precision="float32",
    )


def _step(setting: Setting, groups: int, side: int, inputs: int, units: int) -> Case:
    def setup() -> Trial:
        anchor = 4 * torch.randn((groups, units), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        delta = _whole((groups, side * side, inputs), 1, 1).half().to(setting.device)
        weight, anchor = _whole((units, inputs), 2, 2).half().to(setting.device), anchor.to(setting.device)

        def run(way: str, groups: int = groups) -> list[Tensor]:
            total = GridTotals.zeros(groups, side, side, anchor.device)
            more: dict[str, Any] = {"height": side, "width": side, "bit_offset": 0, "total": total, **RELU}
            if way == "apart":
                product = F.linear(delta[:groups], weight)
                out = narrow.step(anchor[:groups], product, unit=1 / 16, **more)
            else:
                out = linear.step(anchor[:groups], delta[:groups], weight, unit=1 / 16, backend=way, **more)
            return [out, total.right, total.down, total.margin, total.digest]

        def holds(got: list[Tensor]) -> bool:
            return same([x[:1] for x in got], run("reference", 1))

        return Trial((anchor, delta), run, holds)

    return Case(
        operation="linear.step",
        params={"groups": groups, "height": side, "width": side, "inputs": inputs, "units": units},
        dtype="float16",
        cost=linear.cost_step(groups, side, side, inputs, units),
        ways=linear.IMPLS["step"],
        setup=setup,
        peers=(APART,),
        memory=8 * groups * side * side * (inputs + units),
        precision="float16",
    )
