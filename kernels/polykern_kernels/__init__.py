"""The kernels: tensors in, tensors out. One module per family of operations."""

from polykern_kernels import digest as digest
from polykern_kernels import grid as grid
from polykern_kernels import hamming as hamming
from polykern_kernels import pack as pack
from polykern_kernels._dispatch import BackendError as BackendError

__all__ = ["BackendError", "digest", "grid", "hamming", "pack"]
