"""What every engine gives for a block of pixels, whatever its arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from polykern.plane import Grid


@dataclass(frozen=True, slots=True)
class Block:
    """height x width pixels with their upper left one; their right and lower neighbours are evaluated too."""

    row: int
    column: int
    height: int
    width: int


@dataclass(slots=True)
class BlockMaps:
    """Numbers of one block.

    right, down  int32 (fields, height, width)   bits that differ from the right / lower neighbour, by field
    classes      int32 (height, width)           argmax of the output, or None where it is not a vector
    margin       float32 (height, width)         smallest |pre-activation - threshold| of the pixel
    digest       int64 (height, width, 2)        fingerprint of the code (`polykern_kernels.digest`)
    uncertain    bits whose sign lies within the arithmetic's own error bound
    """

    right: NDArray[np.int32]
    down: NDArray[np.int32]
    classes: NDArray[np.int32] | None
    margin: NDArray[np.float32]
    digest: NDArray[np.int64]
    uncertain: int = 0


class Engine(Protocol):
    """Evaluates blocks of a grid.

    name    as in `polykern heatmap --engine`
    dtype   of its arithmetic, in words
    margin  what its margin map is: "exact", "certified lower bound" or "computed"
    """

    name: str
    dtype: str
    margin: str

    def blocks(self, grid: Grid, blocks: Sequence[Block]) -> list[BlockMaps]:
        """The maps of `blocks`, in order."""
        ...


def blank(block: Block, fields: int, classes: bool) -> BlockMaps:
    """Maps of a block to be filled in by `paste`."""
    shape = (block.height, block.width)
    return BlockMaps(
        right=np.zeros((fields, *shape), np.int32),
        down=np.zeros((fields, *shape), np.int32),
        classes=np.zeros(shape, np.int32) if classes else None,
        margin=np.zeros(shape, np.float32),
        digest=np.zeros((*shape, 2), np.int64),
    )


def paste(part: BlockMaps, at: Block, block: Block, maps: BlockMaps) -> None:
    """Copy the maps of the pixels `at` into those of `block`; what hangs over its edge is left out."""
    height = min(at.height, block.row + block.height - at.row)
    width = min(at.width, block.column + block.width - at.column)
    rows = slice(at.row - block.row, at.row - block.row + height)
    columns = slice(at.column - block.column, at.column - block.column + width)
    maps.right[:, rows, columns] = part.right[:, :height, :width]
    maps.down[:, rows, columns] = part.down[:, :height, :width]
    maps.margin[rows, columns] = part.margin[:height, :width]
    maps.digest[rows, columns] = part.digest[:height, :width]
    if maps.classes is not None and part.classes is not None:
        maps.classes[rows, columns] = part.classes[:height, :width]
    maps.uncertain += part.uncertain
