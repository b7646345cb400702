"""The kernels: tensors in, tensors out. One module per family of operations."""

from polykern_kernels import breakpoints as breakpoints
from polykern_kernels import cells as cells
from polykern_kernels import census as census
from polykern_kernels import cooccurrence as cooccurrence
from polykern_kernels import covariance as covariance
from polykern_kernels import digest as digest
from polykern_kernels import euclid as euclid
from polykern_kernels import extraction as extraction
from polykern_kernels import foreign as foreign
from polykern_kernels import forest as forest
from polykern_kernels import forms as forms
from polykern_kernels import grid as grid
from polykern_kernels import hamming as hamming
from polykern_kernels import hierarchy as hierarchy
from polykern_kernels import linear as linear
from polykern_kernels import narrow as narrow
from polykern_kernels import neighbours as neighbours
from polykern_kernels import outlines as outlines
from polykern_kernels import pack as pack
from polykern_kernels import profiles as profiles
from polykern_kernels import program as program
from polykern_kernels import scanline as scanline
from polykern_kernels import survey as survey
from polykern_kernels._dispatch import BackendError as BackendError

__all__ = [
    "BackendError",
    "breakpoints",
    "cells",
    "census",
    "cooccurrence",
    "covariance",
    "digest",
    "euclid",
    "extraction",
    "foreign",
    "forest",
    "forms",
    "grid",
    "hamming",
    "hierarchy",
    "linear",
    "narrow",
    "neighbours",
    "outlines",
    "pack",
    "profiles",
    "program",
    "scanline",
    "survey",
]
