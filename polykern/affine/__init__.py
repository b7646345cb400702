"""Affine maps of polytopes, the distances between them, and the boundaries around a point."""

from polykern.affine.boundaries import Boundaries as Boundaries
from polykern.affine.boundaries import boundary_distances as boundary_distances
from polykern.affine.distances import Correlation as Correlation
from polykern.affine.distances import MapDistance as MapDistance
from polykern.affine.distances import frobenius as frobenius
from polykern.affine.distances import hamming_against_maps as hamming_against_maps
from polykern.affine.features import SplineFeatures as SplineFeatures
from polykern.affine.features import spline_features as spline_features
from polykern.affine.maps import AffineMap as AffineMap
from polykern.affine.maps import affine_map as affine_map
from polykern.affine.maps import affine_maps as affine_maps

__all__ = [
    "AffineMap",
    "Boundaries",
    "Correlation",
    "MapDistance",
    "SplineFeatures",
    "affine_map",
    "affine_maps",
    "boundary_distances",
    "frobenius",
    "hamming_against_maps",
    "spline_features",
]
