"""Exact clusters of spline codes and activations."""
