"""NumPy files that are mapped, once they are known to be what they should be."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from polykern.errors import CorruptError


def mapped_array(path: Path, dtype: DTypeLike, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """A read-only memory map of a .npy file of exactly this dtype, shape and length.

    path   a file without pickled objects
    dtype  of its entries
    shape  None: of any length

    Errors: CorruptError naming the file that is missing or holds something else.
    """
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise CorruptError(f"{path}: not there", why="the folder is incomplete") from None
    except Exception as error:  # whatever a header can do to NumPy's parser
        raise CorruptError(f"{path}: cannot be read as .npy", why=f"{type(error).__name__}: {error}") from None
    if not isinstance(found, np.memmap):
        raise CorruptError(f"{path}: is no single array")
    wanted = np.dtype(dtype)
    fits = found.ndim == len(shape) and all(want in (None, n) for n, want in zip(found.shape, shape, strict=True))
    if found.dtype != wanted or not fits or not found.flags.c_contiguous:
        told = [("any" if n is None else n) for n in shape]
        raise CorruptError(f"{path}: holds {found.dtype} {list(found.shape)}", why=f"not {wanted} {told}")
    if path.stat().st_size != found.offset + found.nbytes:
        raise CorruptError(f"{path}: has bytes after its array")
    return found
