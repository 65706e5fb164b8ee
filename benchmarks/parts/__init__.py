"""The measurements: one module per part of the report.

What several parts share is in `rig`.
"""
