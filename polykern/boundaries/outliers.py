"""Out of distribution: what the codes of points say of how far they are from the codes of training points.

Three scores of a point x:

    distance  Hamming distance of its code from the nearest training code
    unseen    share of its bits that no training point has: on where all are off, off where all are on
    density   boundaries per L2 unit around it, mean over vertices x + r v and x - r v of d_H(c(x), c(vertex)) / r

A larger value is taken for further away; the area under the ROC curve says whether it is, and below 1/2 the score
falls.
Black et al. 2022, "Interpreting Neural Networks through the Polytope Lens", take polytopes for what says when a
direction is on or off distribution.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from polykern.boundaries.local import neighbourhoods, signs
from polykern.codes import Codes
from polykern.errors import UsageError
from polykern.tail import Tail
from polykern_kernels import hamming, neighbours


@dataclass(frozen=True, eq=False)
class Familiar:
    """What is known of the codes of n training points.

    codes   of these points
    never   int32 (words)   bits that are off in all of them
    always  int32 (words)   bits that are on in all of them
    """

    codes: Codes
    never: Tensor
    always: Tensor

    @classmethod
    def of(cls, codes: Codes) -> "Familiar":
        """What there is to know of training codes. Errors: UsageError where there are none."""
        if not len(codes):
            raise UsageError("nothing is familiar without training points")
        some, every = (_folded(codes.words, how) for how in (torch.bitwise_or, torch.bitwise_and))
        return cls(codes, ~some, every)

    @property
    def constant(self) -> int:
        """Bits that are the same in all training points."""
        return int(self.codes.layout.bits - _ones((~self.never & ~self.always)[None]).sum())

    def distances(self, codes: Codes) -> Tensor:
        """int32 (n): Hamming distance from the nearest training code, exact."""
        self.codes.layout.require_same(codes.layout)
        return neighbours.nearest(codes.words, self.codes.words, 1)[0][:, 0]

    def unseen(self, codes: Codes) -> Tensor:
        """float64 (n): the share of bits that no training code has."""
        self.codes.layout.require_same(codes.layout)
        new = (codes.words & self.never) | (~codes.words & self.always)
        return _ones(new).double() / codes.layout.bits


def densities(tail: Tail, points: Tensor, codes: Codes, axes: Tensor, radius: float) -> Tensor:
    """float64 (n): boundaries per L2 unit around points, the mean over the vertices of `axes` and both signs.

    tail    in the dtype that signs are taken in
    points  float (n, *shape); codes are theirs
    axes    float (directions, dimensions)   orthonormal
    radius  L2

    The local isotropic estimate, with orthonormal directions in place of independent ones.
    """
    found, first = [], 0
    for around in neighbourhoods(points, axes, radius):
        n, corners = around.shape[:2]
        own = codes.words[first : first + n].repeat_interleave(corners, 0)
        apart = hamming.aligned(signs(tail, around.flatten(0, 1)), own)
        found.append(apart.view(n, corners).double().mean(1) / radius)
        first += n
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.float64)


def _folded(words: Tensor, how: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """int32 (words): all rows of words int32 (n, words) together, halves with halves."""
    while len(words) > 1:
        half = len(words) // 2
        words = torch.cat([how(words[:half], words[half : 2 * half]), words[2 * half :]])
    return words[0]


def _ones(words: Tensor) -> Tensor:
    """int32 (n): bits set in each row of words int32 (n, words)."""
    return hamming.aligned(words.contiguous(), torch.zeros_like(words))
