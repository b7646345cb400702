"""Lines through the input space of a network: every boundary that a segment crosses."""

from polykern.lines.compute import crossings as crossings
from polykern.lines.compute import crossings_of_lines as crossings_of_lines
from polykern.lines.folding import space_folding as space_folding
from polykern.lines.networks import float64_tail as float64_tail
from polykern.lines.result import Crossings as Crossings
from polykern.lines.sampled import sampled_crossings as sampled_crossings

__all__ = ["Crossings", "crossings", "crossings_of_lines", "float64_tail", "sampled_crossings", "space_folding"]
