"""polykern: the compute engine for the polytope lens on neural networks.

    import polykern as pk
    subject = pk.load("digits")
    pk.heatmap(subject, [0, 1, 2], out="demo", resolution=1024)

    codes = pk.Store.open("pile.codes").rows().codes
    labels = pk.HDBSCAN(min_cluster_size=25).fit_predict(codes)

Names are loaded when they are first used: `import polykern` itself loads nothing but Python.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polykern import errors as errors
    from polykern.affine import AffineMap as AffineMap
    from polykern.affine import Boundaries as Boundaries
    from polykern.affine import affine_map as affine_map
    from polykern.affine import affine_maps as affine_maps
    from polykern.affine import boundary_distances as boundary_distances
    from polykern.affine import frobenius as frobenius
    from polykern.affine import hamming_against_maps as hamming_against_maps
    from polykern.affine import spline_features as spline_features
    from polykern.autoencoders import SparseAutoencoder as SparseAutoencoder
    from polykern.boundaries.compute import complexity as complexity
    from polykern.capturing import capture as capture
    from polykern.clustering.compute import cluster as cluster
    from polykern.clustering.estimator import HDBSCAN as HDBSCAN
    from polykern.clustering.result import Clusters as Clusters
    from polykern.codes import Codes as Codes
    from polykern.coding import Redundancy as Redundancy
    from polykern.coding import Superposition as Superposition
    from polykern.coding import redundancy as redundancy
    from polykern.coding import superposition as superposition
    from polykern.densities import Pairs as Pairs
    from polykern.densities import flow as flow
    from polykern.densities import pairs as pairs
    from polykern.densities import retrieval as retrieval
    from polykern.factors import Dictionary as Dictionary
    from polykern.factors import Directions as Directions
    from polykern.factors import concept_bits as concept_bits
    from polykern.factors import dictionary as dictionary
    from polykern.factors import directions as directions
    from polykern.factors import steer as steer
    from polykern.heat import heatmap as heatmap
    from polykern.layout import Layout as Layout
    from polykern.lines import Crossings as Crossings
    from polykern.lines import crossings as crossings
    from polykern.lines import crossings_of_lines as crossings_of_lines
    from polykern.lines import sampled_crossings as sampled_crossings
    from polykern.lines import space_folding as space_folding
    from polykern.maps.result import HeatMap as HeatMap
    from polykern.models import Subject as Subject
    from polykern.models import load as load
    from polykern.neurons import Embeddings as Embeddings
    from polykern.neurons import embeddings as embeddings
    from polykern.paths import Adversarial as Adversarial
    from polykern.paths import Path as Path
    from polykern.paths import Ray as Ray
    from polykern.paths import adversarial as adversarial
    from polykern.paths import path as path
    from polykern.paths import ray as ray
    from polykern.plane import Plane as Plane
    from polykern.plane import Window as Window
    from polykern.soft import SoftCodes as SoftCodes
    from polykern.soft import soft_codes as soft_codes
    from polykern.spectra import Projections as Projections
    from polykern.spectra import Spectra as Spectra
    from polykern.spectra import projections as projections
    from polykern.spectra import spectrum as spectrum
    from polykern.store import Store as Store
    from polykern.streams import Residual as Residual
    from polykern.streams import residual as residual
    from polykern.subdivision import Partition as Partition
    from polykern.subdivision import partition as partition
    from polykern.tail import Tail as Tail
    from polykern.tracing import trace as trace
    from polykern.words import Synonyms as Synonyms
    from polykern.words import synonyms as synonyms

__version__ = "0.1.0"

_PLACES = {
    "Adversarial": "polykern.paths",
    "AffineMap": "polykern.affine",
    "Boundaries": "polykern.affine",
    "Clusters": "polykern.clustering.result",
    "Codes": "polykern.codes",
    "Crossings": "polykern.lines",
    "Dictionary": "polykern.factors",
    "Directions": "polykern.factors",
    "Embeddings": "polykern.neurons",
    "HDBSCAN": "polykern.clustering.estimator",
    "HeatMap": "polykern.maps.result",
    "Layout": "polykern.layout",
    "Pairs": "polykern.densities",
    "Partition": "polykern.subdivision",
    "Path": "polykern.paths",
    "Plane": "polykern.plane",
    "Projections": "polykern.spectra",
    "Ray": "polykern.paths",
    "Redundancy": "polykern.coding",
    "Residual": "polykern.streams",
    "SoftCodes": "polykern.soft",
    "SparseAutoencoder": "polykern.autoencoders",
    "Spectra": "polykern.spectra",
    "Store": "polykern.store",
    "Subject": "polykern.models",
    "Superposition": "polykern.coding",
    "Synonyms": "polykern.words",
    "Tail": "polykern.tail",
    "Window": "polykern.plane",
    "adversarial": "polykern.paths",
    "affine_map": "polykern.affine",
    "affine_maps": "polykern.affine",
    "boundary_distances": "polykern.affine",
    "capture": "polykern.capturing",
    "cluster": "polykern.clustering.compute",
    "complexity": "polykern.boundaries.compute",
    "concept_bits": "polykern.factors",
    "crossings": "polykern.lines",
    "crossings_of_lines": "polykern.lines",
    "dictionary": "polykern.factors",
    "directions": "polykern.factors",
    "embeddings": "polykern.neurons",
    "flow": "polykern.densities",
    "frobenius": "polykern.affine",
    "hamming_against_maps": "polykern.affine",
    "heatmap": "polykern.heat",
    "load": "polykern.models",
    "pairs": "polykern.densities",
    "partition": "polykern.subdivision",
    "path": "polykern.paths",
    "projections": "polykern.spectra",
    "ray": "polykern.paths",
    "redundancy": "polykern.coding",
    "residual": "polykern.streams",
    "retrieval": "polykern.densities",
    "sampled_crossings": "polykern.lines",
    "soft_codes": "polykern.soft",
    "space_folding": "polykern.lines",
    "spectrum": "polykern.spectra",
    "spline_features": "polykern.affine",
    "steer": "polykern.factors",
    "superposition": "polykern.coding",
    "synonyms": "polykern.words",
    "trace": "polykern.tracing",
}
__all__ = [
    "HDBSCAN",
    "Adversarial",
    "AffineMap",
    "Boundaries",
    "Clusters",
    "Codes",
    "Crossings",
    "Dictionary",
    "Directions",
    "Embeddings",
    "HeatMap",
    "Layout",
    "Pairs",
    "Partition",
    "Path",
    "Plane",
    "Projections",
    "Ray",
    "Redundancy",
    "Residual",
    "SoftCodes",
    "SparseAutoencoder",
    "Spectra",
    "Store",
    "Subject",
    "Superposition",
    "Synonyms",
    "Tail",
    "Window",
    "__version__",
    "adversarial",
    "affine_map",
    "affine_maps",
    "boundary_distances",
    "capture",
    "cluster",
    "complexity",
    "concept_bits",
    "crossings",
    "crossings_of_lines",
    "dictionary",
    "directions",
    "embeddings",
    "errors",
    "flow",
    "frobenius",
    "hamming_against_maps",
    "heatmap",
    "load",
    "pairs",
    "partition",
    "path",
    "projections",
    "ray",
    "redundancy",
    "residual",
    "retrieval",
    "sampled_crossings",
    "soft_codes",
    "space_folding",
    "spectrum",
    "spline_features",
    "steer",
    "superposition",
    "synonyms",
    "trace",
]


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("polykern.errors")
    if name not in _PLACES:
        raise AttributeError(f"module 'polykern' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
