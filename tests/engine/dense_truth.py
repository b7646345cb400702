"""Plain dense float64: the truth that exact engines are held to, written without them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from polykern.block import Block
from polykern.plane import Grid
from polykern.tail import Meeting, Tail
from polykern_kernels import digest

TIE = 1e-10  # outputs closer than this have no class


@dataclass(frozen=True)
class Truth:
    """Of a block of height x width pixels and the next row and column.

    codes   bool (height + 1, width + 1, bits)
    z       float64 (height + 1, width + 1, bits)  pre-activation - threshold
    output  float64 (height + 1, width + 1, *output)
    """

    codes: Tensor
    z: Tensor
    output: Tensor

    @property
    def right(self) -> Tensor:
        """int64 (height, width): bits that differ from the right neighbour."""
        return (self.codes[:-1, :-1] != self.codes[:-1, 1:]).sum(-1)

    @property
    def down(self) -> Tensor:
        """int64 (height, width): bits that differ from the one below."""
        return (self.codes[:-1, :-1] != self.codes[1:, :-1]).sum(-1)

    @property
    def fingerprints(self) -> Tensor:
        """int64 (height, width, 2), by summing keys."""
        codes = self.codes[:-1, :-1]
        sums: Tensor = codes.flatten(0, 1).long() @ digest.keys(codes.shape[-1])
        return sums.reshape(*codes.shape[:2], 2)

    def classes(self, found: Tensor) -> Tensor:
        """int64 (height, width): argmax of the output; `found` where the two best outputs tie."""
        out = self.output[:-1, :-1]
        best = out.topk(min(2, out.shape[-1]), -1)
        tied = best.values[..., 0] - best.values[..., -1] < TIE
        return torch.where(tied & (out.shape[-1] > 1), found.long(), best.indices[..., 0])


def truth(tail: Tail, grid: Grid, block: Block) -> Truth:
    """Evaluate a block by plain float64."""
    rows = torch.arange(block.row, block.row + block.height + 1)
    columns = torch.arange(block.column, block.column + block.width + 1)
    points = grid.points(*(t.flatten() for t in torch.meshgrid(rows, columns, indexing="ij")))
    values: list[Tensor] = []

    def reach(met: Meeting) -> Any:
        if met.field is not None:
            values.extend((met.z - t).flatten(1) for t in met.field.thresholds)
        return met.proceed()

    output = tail.to(torch.float64).run(points, reach)
    shape = (len(rows), len(columns))
    z = torch.cat(values, 1).unflatten(0, shape)
    return Truth(z > 0, z, output.unflatten(0, shape))
