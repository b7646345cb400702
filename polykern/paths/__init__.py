"""Paths and rays through the input space of a network: how densely they cross boundaries, and where classes change."""

from polykern.paths.compute import path as path
from polykern.paths.curves import Curve as Curve
from polykern.paths.curves import crofton as crofton
from polykern.paths.curves import curve as curve
from polykern.paths.evaluation import Balls as Balls
from polykern.paths.evaluation import balls as balls
from polykern.paths.path import Path as Path

__all__ = ["Balls", "Curve", "Path", "balls", "crofton", "curve", "path"]
