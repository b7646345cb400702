"""Complexity: how many boundaries a network has around points, along paths, over training and at initialisation."""

from polykern.complexity.compute import PARTS as PARTS
from polykern.complexity.compute import complexity as complexity
from polykern.complexity.course import Course as Course
from polykern.complexity.course import course as course
from polykern.complexity.gradients import boundary_density as boundary_density
from polykern.complexity.gradients import jacobian_norms as jacobian_norms
from polykern.complexity.gradients import nearest_boundary as nearest_boundary
from polykern.complexity.local import LocalComplexity as LocalComplexity
from polykern.complexity.local import frame as frame
from polykern.complexity.local import local_complexity as local_complexity
from polykern.complexity.outliers import Familiar as Familiar
from polykern.complexity.outliers import densities as densities
from polykern.complexity.result import Complexity as Complexity
from polykern.complexity.trajectories import Transitions as Transitions
from polykern.complexity.trajectories import circle as circle
from polykern.complexity.trajectories import loop as loop
from polykern.complexity.trajectories import transitions as transitions
