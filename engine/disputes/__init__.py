"""Complaints about a packet: filing them, deciding them, corrections and debts.

Working days for deadlines are in `calendar`. Freezes are in `risk`.
"""
