"""The kernels: tensors in, tensors out. One module per family of operations."""

from polykern_kernels import census as census
from polykern_kernels import digest as digest
from polykern_kernels import forms as forms
from polykern_kernels import grid as grid
from polykern_kernels import hamming as hamming
from polykern_kernels import pack as pack
from polykern_kernels import program as program
from polykern_kernels._dispatch import BackendError as BackendError

__all__ = ["BackendError", "census", "digest", "forms", "grid", "hamming", "pack", "program"]
