"""Residual streams of transformers: scaled in front of a block, and interpolated from one text to another.

norms         live, without their eps, or frozen
blocks        what a block's parts are called
rescaling     which bits change when the stream is scaled
interpolated  where bits and output change between two texts
compute       `pk.residual`: both, with intervals
result        what comes of it
"""

from polykern.streams.compute import residual as residual
from polykern.streams.interpolated import Plateaus as Plateaus
from polykern.streams.interpolated import plateaus as plateaus
from polykern.streams.rescaling import Rescaling as Rescaling
from polykern.streams.rescaling import rescaled as rescaled
from polykern.streams.result import Residual as Residual
