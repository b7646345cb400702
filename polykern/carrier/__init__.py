"""Carriers: objects that travel through an unmodified torch module in place of a batch of points."""

import polykern.carrier._linear  # noqa: F401  registers the rules
from polykern.carrier._carrier import Carrier as Carrier
from polykern.carrier._carrier import Linear as Linear
from polykern.carrier._carrier import NotCarried as NotCarried

__all__ = ["Carrier", "Linear", "NotCarried"]
