"""Paths and rays through the input space of a network: the boundaries they cross, and where the class changes."""

from polykern.paths.beams import Beam as Beam
from polykern.paths.beams import Ray as Ray
from polykern.paths.compute import path as path
from polykern.paths.curves import Curve as Curve
from polykern.paths.curves import crofton as crofton
from polykern.paths.curves import curve as curve
from polykern.paths.evaluation import Balls as Balls
from polykern.paths.evaluation import balls as balls
from polykern.paths.interpolation import Path as Path
from polykern.paths.perturbation import Adversarial as Adversarial
from polykern.paths.perturbation import adversarial as adversarial
from polykern.paths.scaling import ray as ray

__all__ = [
    "Adversarial",
    "Balls",
    "Beam",
    "Curve",
    "Path",
    "Ray",
    "adversarial",
    "balls",
    "crofton",
    "curve",
    "path",
    "ray",
]
