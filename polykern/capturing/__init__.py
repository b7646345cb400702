"""Models and corpora to stores of codes."""
