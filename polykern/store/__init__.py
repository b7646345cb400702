"""Stores of packed codes on disk: `polykern-codes/1`."""
