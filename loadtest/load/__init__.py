"""`make load`: locust's users on a running engine.

Faults are in `chaos`.
"""
