"""Child processes: starting, watching and stopping them.

What the children do is not known here. Production uses systemd.
"""
