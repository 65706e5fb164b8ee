"""Load generators in separate processes, besides wrk.

When and how they run is in `parts` and `rig`.
"""
