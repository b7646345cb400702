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
    from polykern.capturing import capture as capture
    from polykern.clustering.compute import cluster as cluster
    from polykern.clustering.estimator import HDBSCAN as HDBSCAN
    from polykern.clustering.result import Clusters as Clusters
    from polykern.codes import Codes as Codes
    from polykern.embeddings import Embeddings as Embeddings
    from polykern.embeddings import embeddings as embeddings
    from polykern.heat import heatmap as heatmap
    from polykern.layout import Layout as Layout
    from polykern.maps.result import HeatMap as HeatMap
    from polykern.models import Subject as Subject
    from polykern.models import load as load
    from polykern.pairs import Pairs as Pairs
    from polykern.pairs import pairs as pairs
    from polykern.plane import Plane as Plane
    from polykern.plane import Window as Window
    from polykern.spectrum import Projections as Projections
    from polykern.spectrum import Spectra as Spectra
    from polykern.spectrum import projections as projections
    from polykern.spectrum import spectrum as spectrum
    from polykern.store import Store as Store
    from polykern.subdivision import Partition as Partition
    from polykern.subdivision import partition as partition
    from polykern.tail import Tail as Tail
    from polykern.tracing import trace as trace

__version__ = "0.1.0"

_PLACES = {
    "HDBSCAN": "polykern.clustering.estimator",
    "Clusters": "polykern.clustering.result",
    "Codes": "polykern.codes",
    "Embeddings": "polykern.embeddings",
    "HeatMap": "polykern.maps.result",
    "Layout": "polykern.layout",
    "Pairs": "polykern.pairs",
    "Partition": "polykern.subdivision",
    "Plane": "polykern.plane",
    "Projections": "polykern.spectrum",
    "Spectra": "polykern.spectrum",
    "Store": "polykern.store",
    "Subject": "polykern.models",
    "Tail": "polykern.tail",
    "Window": "polykern.plane",
    "capture": "polykern.capturing",
    "cluster": "polykern.clustering.compute",
    "embeddings": "polykern.embeddings",
    "heatmap": "polykern.heat",
    "load": "polykern.models",
    "pairs": "polykern.pairs",
    "partition": "polykern.subdivision",
    "projections": "polykern.spectrum",
    "spectrum": "polykern.spectrum",
    "trace": "polykern.tracing",
}
__all__ = [
    "HDBSCAN",
    "Clusters",
    "Codes",
    "Embeddings",
    "HeatMap",
    "Layout",
    "Pairs",
    "Partition",
    "Plane",
    "Projections",
    "Spectra",
    "Store",
    "Subject",
    "Tail",
    "Window",
    "__version__",
    "capture",
    "cluster",
    "embeddings",
    "errors",
    "heatmap",
    "load",
    "pairs",
    "partition",
    "projections",
    "spectrum",
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
