"""Boundaries: how many a network has around points, along paths, over training and at initialisation."""

from polykern.boundaries.checkpoints import Course as Course
from polykern.boundaries.checkpoints import course as course
from polykern.boundaries.compute import PARTS as PARTS
from polykern.boundaries.compute import complexity as complexity
from polykern.boundaries.gradients import boundary_density as boundary_density
from polykern.boundaries.gradients import jacobian_norms as jacobian_norms
from polykern.boundaries.local import LocalComplexity as LocalComplexity
from polykern.boundaries.local import frame as frame
from polykern.boundaries.local import local_complexity as local_complexity
from polykern.boundaries.outliers import Familiar as Familiar
from polykern.boundaries.outliers import densities as densities
from polykern.boundaries.parts.initialisation import at_initialisation as at_initialisation
from polykern.boundaries.result import Complexity as Complexity
from polykern.boundaries.trajectories import Transitions as Transitions
from polykern.boundaries.trajectories import circle as circle
from polykern.boundaries.trajectories import loop as loop
from polykern.boundaries.trajectories import transitions as transitions
