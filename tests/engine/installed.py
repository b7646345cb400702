"""What is installed, for tests that need it."""

import importlib.metadata

import pytest


def installed(distribution: str) -> bool:
    """Whether a distribution is there with its files."""
    try:
        return bool(importlib.metadata.files(distribution))
    except importlib.metadata.PackageNotFoundError:
        return False


def needs(*distributions: str) -> pytest.MarkDecorator:
    """A mark that skips a test where one of them is missing."""
    absent = [d for d in distributions if not installed(d)]
    return pytest.mark.skipif(bool(absent), reason=f"not installed: {', '.join(absent)}")
