"""What an operation must cost at least, and how close a run came to it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Roof:
    """What this machine can do, measured in the same process."""

    bytes_per_s: float
    popcounts_per_s: float
    flops_per_s: float


@dataclass(frozen=True, slots=True)
class Cost:
    """The least work any implementation does: compulsory bytes, 32-bit popcounts, floating-point operations."""

    bytes: int
    popcounts: int = 0
    flops: int = 0

    def seconds_at(self, roof: Roof) -> float:
        """Speed of light: the slowest of moving the bytes, counting the bits and doing the arithmetic."""
        return max(
            self.bytes / roof.bytes_per_s,
            self.popcounts / roof.popcounts_per_s,
            self.flops / roof.flops_per_s,
        )
