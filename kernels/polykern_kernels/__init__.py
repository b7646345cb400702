"""The kernels: tensors in, tensors out. One module per family of operations."""

from polykern_kernels._dispatch import BackendError as BackendError

__all__ = ["BackendError"]
