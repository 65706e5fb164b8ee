"""Complaints about a packet: filing and deciding them.

The days that their deadlines count are in `calendar`; freezes that a decision makes or lifts are in `risk`.
"""
