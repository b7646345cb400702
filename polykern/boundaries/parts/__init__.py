"""The parts of `pk.complexity`, each with its numbers, its tables and its figure."""
