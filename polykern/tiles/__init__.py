"""Tile programs: exact codes of every pixel of a piecewise-linear network, a hundredth of the dense work."""

from polykern.tiles.bundle import Bundle as Bundle
from polykern.tiles.compress import affine as affine
from polykern.tiles.compress import compress as compress
from polykern.tiles.costs import Choice as Choice
from polykern.tiles.engine import BANDS as BANDS
from polykern.tiles.engine import TileEngine as TileEngine

__all__ = ["BANDS", "Bundle", "Choice", "TileEngine", "affine", "compress"]
