"""Complexity: how many boundaries a network has around points, along trajectories and at initialisation."""
