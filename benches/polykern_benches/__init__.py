"""Benches: what every kernel and every main job costs, beside the peers and the limits of the same machine."""
