"""Directions and dictionaries: bases of activations and of codes beside the clusters of the codes."""

from polykern.factors.compute import directions as directions
from polykern.factors.dictionaries import Dictionary as Dictionary
from polykern.factors.dictionaries import dictionary as dictionary
from polykern.factors.factorisation import nmf as nmf
from polykern.factors.factorisation import pca as pca
from polykern.factors.result import Directions as Directions
from polykern.factors.steering import Mask as Mask
from polykern.factors.steering import concept_bits as concept_bits
from polykern.factors.steering import steer as steer

__all__ = [
    "Dictionary",
    "Directions",
    "Mask",
    "concept_bits",
    "dictionary",
    "directions",
    "nmf",
    "pca",
    "steer",
]
