"""Chaos: a storm of recorded clients, faults from a seed, and the books held against what every client was told."""
