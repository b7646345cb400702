"""Spectra: how the variance of activations and codes falls with the rank, and what such a code can carry.

powerlaw   exponents, windows, participation ratio, the bound 1 + 2/d
moments    streamed second moments by group of documents, mergeable, of activations and of codes
compute    `pk.spectrum`
capacity   approximate channel capacities, entropies of binary codes
"""

from polykern.spectrum.compute import spectrum as spectrum
from polykern.spectrum.loops import Projections as Projections
from polykern.spectrum.loops import projections as projections
from polykern.spectrum.moments import ActivationMoments as ActivationMoments
from polykern.spectrum.moments import CodeMoments as CodeMoments
from polykern.spectrum.powerlaw import Fit as Fit
from polykern.spectrum.powerlaw import fit as fit
from polykern.spectrum.result import Spectra as Spectra
from polykern.spectrum.result import Spectrum as Spectrum
