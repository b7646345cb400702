"""Spectra: how the variance of activations and codes falls with the rank, and what such a code can carry.

powerlaw   exponents, windows, participation ratio, the bound 1 + 2/d
moments    streamed second moments by group of documents, mergeable, of activations and of codes
compute    `pk.spectrum`
loops      `pk.projections`: layers along a loop of inputs
variogram  smooth or rough, by the slope of the variogram
capacity   approximate channel capacities, entropies of binary codes
"""

from polykern.spectra.compute import spectrum as spectrum
from polykern.spectra.loops import Projections as Projections
from polykern.spectra.loops import projections as projections
from polykern.spectra.moments import ActivationMoments as ActivationMoments
from polykern.spectra.moments import CodeMoments as CodeMoments
from polykern.spectra.powerlaw import Fit as Fit
from polykern.spectra.powerlaw import fit as fit
from polykern.spectra.result import Spectra as Spectra
from polykern.spectra.result import Spectrum as Spectrum
