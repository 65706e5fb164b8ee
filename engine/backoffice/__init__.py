"""What operators see across the rooms: the day's figures and what waits, one packet, one user, the lanes, notes.

Lists of one noun, and what is done with it, are in the noun's room. Pages are in ``api.console``.
"""
