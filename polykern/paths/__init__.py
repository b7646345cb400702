"""Paths and rays through the input space of a network: the boundaries they cross, and where the class changes."""

from polykern.paths.compute import path as path
from polykern.paths.curves import Curve as Curve
from polykern.paths.curves import crofton as crofton
from polykern.paths.curves import curve as curve
from polykern.paths.evaluation import Balls as Balls
from polykern.paths.evaluation import balls as balls
from polykern.paths.path import Path as Path
from polykern.paths.ray import Beam as Beam
from polykern.paths.ray import Ray as Ray
from polykern.paths.scaling import ray as ray

__all__ = ["Balls", "Beam", "Curve", "Path", "Ray", "balls", "crofton", "curve", "path", "ray"]
