"""What an operation must cost at least."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """The least work any implementation does: compulsory bytes, 32-bit popcounts, floating-point operations."""

    bytes: int
    popcounts: int = 0
    flops: int = 0
