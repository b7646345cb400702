"""polykern: the compute engine for the polytope lens on neural networks."""

__version__ = "0.1.0"
