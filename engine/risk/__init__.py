"""What keeps accounts within bounds: freezes, limits on what is sent and received, profiles, alerts.

A limit on sending is here even if it applies only to packets. Rules of withdrawals and disputes are in their own rooms.
"""
