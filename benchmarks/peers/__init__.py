"""Other implementations of the same work, each in its community's usual style, on the same keys.

How they are loaded is in `rig`.
"""
