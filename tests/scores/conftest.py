"""Fixtures of the scores."""

import numpy as np
import pytest


@pytest.fixture
def rng_numpy() -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(0)
