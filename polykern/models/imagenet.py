"""The names of ImageNet's thousand classes."""

from polykern.models import _torchvision


def classes() -> tuple[str, ...]:
    """The 1000 names, as torchvision writes them; raises MissingExtra when it is not installed."""
    _torchvision.library()
    from torchvision.models import GoogLeNet_Weights

    return tuple(GoogLeNet_Weights.IMAGENET1K_V1.meta["categories"])
