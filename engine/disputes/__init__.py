"""Complaints about a packet: filing and deciding them, moving what was decided, and debts.

The days that their deadlines count are in `calendar`; freezes that a decision makes or lifts are in `risk`.
"""
