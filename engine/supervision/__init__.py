"""Child processes: starting, watching and stopping them.

This room does not know what the children do. Production uses systemd.
"""
