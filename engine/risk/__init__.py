"""What keeps accounts within bounds: freezes, limits, profiles, alerts.

A rule of one kind of money is in the room of that kind.
"""
