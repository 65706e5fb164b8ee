"""Reads all the books and reports what is wrong: invariants, and a day's reconciliation.

Nothing here writes. Quarantine is in `persisting`, rebuilding in `recovery`.
"""
