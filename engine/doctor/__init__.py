"""One line per check: is it configured, reachable and safe? Everything is left as it was.

Repairing is in other rooms.
"""
