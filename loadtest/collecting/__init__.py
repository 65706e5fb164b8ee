"""Collectors by the hundred thousand: cards dropped, given, exchanged and spent at once, and the pool drawn."""
