"""What measured codes can carry: capacities over a grid of noise, and bounds of the entropy of their bits.

Activations with eigenvalues lambda are taken for a Gaussian channel with noise sigma on every neuron. sigma is told
as a share of the standard deviation of a neuron, sqrt(mean lambda), so that layers of any scale can stand side by
side. Codes are N bits on a binary symmetric channel, whatever their statistics; what these say is the entropy.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polykern.errors import UsageError
from polykern.spectra import capacity
from polykern.spectra.moments import CodeMoments
from polykern.statistics import Estimate, jackknife

Reals = NDArray[np.float64]
NOISE = tuple(float(f"{x:.3g}") for x in np.geomspace(0.01, 10, 13))  # standard deviations of a neuron
TOLD = (0.1, 1.0)  # of them, in the headline numbers
FLIPS = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)  # probabilities that a bit is flipped
FLIPS_TOLD = (0.01, 0.1)
GAUSSIAN, WHITE, BINARY = "gaussian", "white", "binary symmetric"


@dataclass(frozen=True)
class Channel:
    """Bits a use of a channel, over a grid of noise.

    name   "gaussian": the measured eigenvalues; "white": their power spread evenly, the most there is;
           "binary symmetric": bits that are flipped
    noise  (k)   standard deviations of a neuron, or the probability that a bit is flipped
    bits   (k)   with intervals over groups of documents; of a closed form the ends are the number itself
    told   of the noise, in the headline numbers
    """

    name: str
    noise: tuple[float, ...]
    bits: tuple[Estimate, ...]
    told: tuple[float, ...]

    def at(self, noise: float) -> Estimate:
        """Bits at a noise of the grid; UsageError for another one."""
        if noise not in self.noise:
            raise UsageError(
                f"no noise {noise:g} on the grid", fix=f"one of {', '.join(f'{x:g}' for x in self.noise)}"
            )
        return self.bits[self.noise.index(noise)]

    def points(self) -> Iterator[tuple[float, Estimate]]:
        """(noise, bits), ascending in noise."""
        return zip(self.noise, self.bits, strict=True)


@dataclass(frozen=True)
class Entropy:
    """Bounds of the entropy of a binary code, bits.

    independent  sum of the entropies of its bits: an upper bound
    tree         less what pairs of bits tell of each other along the best tree: an upper bound, and a tighter one
    redundancy   the difference
    """

    independent: Estimate
    tree: Estimate
    redundancy: Estimate

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def gaussian(
    values: Reals, left_out: Sequence[Reals], *, level: float = 0.95, noise: Sequence[float] = NOISE
) -> list[Channel]:
    """The capacity of a spectrum, and that of the same power spread evenly.

    values    float64 (m)            eigenvalues of all rows
    left_out  (groups) of such       of all groups of documents but one
    level     of the intervals
    noise     standard deviations of a neuron of all rows, ascending
    """
    scale = float(np.sqrt(values.mean()))
    found = []
    for name, of in ((GAUSSIAN, capacity.gaussian), (WHITE, capacity.white)):
        bits = tuple(
            jackknife(of(values, x * scale), [of(rest, x * scale) for rest in left_out], level=level) for x in noise
        )
        found.append(Channel(name, tuple(noise), bits, TOLD))
    return found


def binary(bits: int) -> list[Channel]:
    """The capacity of so many bits over the probability that one is flipped: a closed form, without statistics."""
    exact = [capacity.binary_symmetric(bits, e) for e in FLIPS]
    return [Channel(BINARY, FLIPS, tuple(Estimate(x, x, x, 1.0) for x in exact), FLIPS_TOLD)]


def entropy(moments: CodeMoments, *, level: float = 0.95) -> Entropy:
    """Bounds of the entropy of codes from the counts of their bits.

    Of plug-in probabilities: few rows make bits tell more of each other than they do, which no interval shows.
    Intervals are of the jackknife over groups of documents. Chow and Liu 1968.
    """
    whole = capacity.code_entropy(moments.totals.sum(0), int(moments.rows.sum()))
    filled = np.flatnonzero(moments.rows).tolist()
    rest = [
        capacity.code_entropy(moments.totals.sum(0) - moments.totals[g], int(moments.rows.sum() - moments.rows[g]))
        for g in filled
    ]
    ends = {
        name: jackknife(getattr(whole, name), [getattr(r, name) for r in rest], level=level)
        for name in capacity.CodeEntropy._fields
    }
    return Entropy(ends["independent"], ends["tree"], ends["redundancy"])
