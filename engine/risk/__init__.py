"""What keeps accounts within bounds: freezes, limits on what is sent and received, profiles, alerts.

A limit on sending is here also where it holds for packets only. What a withdrawal or a dispute needs is in its own
room.
"""
