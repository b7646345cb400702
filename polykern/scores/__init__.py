"""How good a clustering is, as numbers with baselines."""
