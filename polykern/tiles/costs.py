"""What a tile size costs, by a model and not by a clock, so that a choice can be repeated."""

from dataclasses import dataclass

from polykern.tiles.bundle import Bundle
from polykern_kernels.program import Programs


@dataclass(frozen=True, slots=True)
class Choice:
    """A tile size and what it costs.

    side     pixels, a power of two
    limit    symbols beyond which a tile is cut into four
    symbols  mean symbols of a tile
    cost     model seconds a pixel (`seconds`)
    """

    side: int
    limit: int
    symbols: float
    cost: float


@dataclass(frozen=True, slots=True)
class Rates:
    """Nanoseconds of a kind of device.

    coefficient  on its way through a layer
    term         at a pixel
    instruction  at a pixel
    tile         its share of a batch
    """

    coefficient: float
    term: float
    instruction: float
    tile: float


# One reference core: fitted on a Zen 4. A GPU: derived for an H200 and not measured. A coefficient is read or
# written about ten times at 4 TB/s and takes part in some 500 float64 operations at 30 TFLOP/s; a term is a quarter
# of a 64-byte load of symbols and coefficients in L1 and one multiply-add; a tile is a few hundred bytes of tables.
RATES = {
    "cpu": Rates(coefficient=20.0, term=0.08, instruction=1.0, tile=200_000.0),
    "cuda": Rates(coefficient=0.04, term=0.0003, instruction=0.001, tile=100.0),
}


def seconds(programs: Programs, bundle: Bundle, side: int) -> float:
    """What compressing and running these tiles costs, of the kind of device that the bundle is on.

    programs  what the bundle became
    bundle    after its way through the network
    side      of a tile, pixels
    """
    rates, pixels = RATES[bundle.device.type], (side + 1) ** 2
    run = pixels * (rates.term * len(programs.term) + rates.instruction * len(programs.kind))
    return 1e-9 * (rates.coefficient * bundle.coefficients + run + rates.tile * bundle.tiles)
