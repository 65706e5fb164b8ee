"""Redis and Postgres as child processes in a data directory.

An installation that has its own servers needs nothing of it.
"""
