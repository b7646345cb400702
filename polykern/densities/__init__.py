"""Densities between points: how many boundaries lie between two inputs, for their distance.

    density(a, b) = d_H(code a, code b) / |a - b|        the secant density, boundaries per unit L2

between inputs of one class and of different classes, in the input space of every stage of a network, beside
controls that say what distance and untrained weights alone would give. Black et al. 2022, "Interpreting Neural
Networks through the Polytope Lens".

    draw              which pairs
    stages            where the spaces begin, and the codes behind them
    compute           `pk.pairs`
    representational  what becomes near or far between two stages: `pk.flow`
    nearest           classes by the nearest codes: `pk.retrieval`
"""

from polykern.densities.compute import pairs as pairs
from polykern.densities.nearest import retrieval as retrieval
from polykern.densities.representational import Flow as Flow
from polykern.densities.representational import flow as flow
from polykern.densities.result import Pairs as Pairs
from polykern.densities.result import Stage as Stage
