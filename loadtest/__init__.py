"""Load on a running engine over real HTTP: the demo's storm, locust, and chaos.

Figures for comparison are in `benchmarks`.
"""
