"""A plane to pan and zoom in, live: `Exploration` holds its tiles, `bound` shows it over loopback."""

from polykern.explore.exploration import Exploration as Exploration
from polykern.explore.pyramid import Pyramid as Pyramid
from polykern.explore.pyramid import Tile as Tile
from polykern.explore.server import bound as bound
