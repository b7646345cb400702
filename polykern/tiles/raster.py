"""The maps of a block while tiles are put into them: tensors on the device that runs the tiles."""

from collections.abc import Sequence

import torch
from torch import Tensor

from polykern.block import Block, BlockMaps
from polykern_kernels.program import Outcome


class Raster:
    """Maps of one block, padded to whole tiles.

    block        height x width pixels
    right, down  int32 (fields, rows, columns), as in `BlockMaps`, but for the padding
    classes      int32 (rows, columns), or None
    margin       float32 (rows, columns)
    digest       int64 (rows, columns, 2)
    uncertain    int64 ()
    """

    def __init__(self, block: Block, side: int, fields: int, classes: bool, device: torch.device) -> None:
        """side  of the largest tiles that will be put in, pixels; a power of two"""
        self.block = block
        shape = tuple(-(-n // side) * side for n in (block.height, block.width))
        self.right = torch.zeros((fields, *shape), dtype=torch.int32, device=device)
        self.down = torch.zeros_like(self.right)
        self.classes = torch.zeros(shape, dtype=torch.int32, device=device) if classes else None
        self.margin = torch.zeros(shape, dtype=torch.float32, device=device)
        self.digest = torch.zeros((*shape, 2), dtype=torch.int64, device=device)
        self.uncertain = torch.zeros((), dtype=torch.int64, device=device)

    def cut(self, side: int) -> Tensor:
        """int64 (tiles, 2): upper left corners of the tiles that cover the block, pixels of the grid."""
        rows, columns = (torch.arange(0, n, side) for n in (self.block.height, self.block.width))
        corner = torch.tensor([self.block.row, self.block.column])
        return torch.cartesian_prod(rows, columns).reshape(-1, 2) + corner

    def put(self, corners: Tensor, part: Outcome) -> None:
        """Fill in tiles.

        corners  int64 (tiles, 2)   on the raster's device; multiples of the tiles' side from the block's corner
        part     maps of the tiles
        """
        side = part.margin.shape[-1]
        first = torch.tensor([self.block.row, self.block.column], device=corners.device)
        at = ((corners - first) // side).unbind(1)
        for maps, tiles in ((self.right, part.right), (self.down, part.down)):
            _tiled(maps, side, 1).permute(1, 3, 0, 2, 4)[at] = tiles
        _tiled(self.margin, side, 0).transpose(1, 2)[at] = part.margin
        _tiled(self.digest, side, 0).transpose(1, 2)[at] = part.digest
        if self.classes is not None:
            _tiled(self.classes, side, 0).transpose(1, 2)[at] = part.classes
        self.uncertain += part.uncertain.sum()

    def maps(self) -> BlockMaps:
        """The block without the padding, on the host: one copy a map."""
        height, width = self.block.height, self.block.width
        counts = [x[:, :height, :width] for x in (self.right, self.down)]
        rest = [x[:height, :width] for x in (self.margin, self.digest)]
        extra = [] if self.classes is None else [self.classes[:height, :width]]
        right, down, margin, digest, *classes = (x.numpy() for x in _on_host([*counts, *rest, *extra]))
        return BlockMaps(right, down, classes[0] if classes else None, margin, digest, int(self.uncertain))


def _tiled(maps: Tensor, side: int, axis: int) -> Tensor:
    """(..., rows, columns, ...) as (..., rows / side, side, columns / side, side, ...)."""
    rows, columns = maps.shape[axis : axis + 2]
    shape = (*maps.shape[:axis], rows // side, side, columns // side, side, *maps.shape[axis + 2 :])
    return maps.view(shape)


def _on_host(parts: Sequence[Tensor]) -> list[Tensor]:
    """Contiguous copies in the host's memory; page-locked ones from a GPU, whose copies overlap."""
    if all(x.device.type == "cpu" for x in parts):
        return [x.contiguous() for x in parts]
    out = [torch.empty(x.shape, dtype=x.dtype, pin_memory=True) for x in parts]
    for there, x in zip(out, parts, strict=True):
        there.copy_(x, non_blocking=True)
    torch.cuda.synchronize(parts[0].device)
    return out
