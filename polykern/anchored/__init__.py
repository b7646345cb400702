"""Anchored evaluation: points as (anchor, difference), so that rounding is relative to the difference."""

from polykern.anchored.engine import TILE as TILE
from polykern.anchored.engine import AnchoredEngine as AnchoredEngine
from polykern.anchored.engine import met as met
from polykern.anchored.points import Anchored as Anchored

__all__ = ["TILE", "Anchored", "AnchoredEngine", "met"]
