"""Compiled CPU loops, one module a family; imported on first use, because numba is heavy."""
