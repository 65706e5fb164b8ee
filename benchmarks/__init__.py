"""Measurements that anyone can repeat, and their report.

Faults are in `loadtest.chaos`, behaviour under load in `loadtest.load`.
"""
