"""Redundancy: what dropout does to a code, and how features share a space.

training   networks for the study, seen layer by layer: the digits network, a residual autoencoder
knockout   what is left when neurons fail
classes    distances between the codes of classes
compute    `pk.redundancy`
toy        features in fewer dimensions: the model of Elhage et al. 2022, many instances at once
sweep      `pk.superposition`
"""

from polykern.coding.compute import redundancy as redundancy
from polykern.coding.result import Redundancy as Redundancy
from polykern.coding.sweep import Superposition as Superposition
from polykern.coding.sweep import superposition as superposition
