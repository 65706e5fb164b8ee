"""Chaos: a storm of recorded clients, faults from a seed, and a comparison of all answers with the books.

Load without faults is in `load`.
"""
