"""Redis and Postgres as child processes in a data directory.

An installation with its own servers does not need this room.
"""
