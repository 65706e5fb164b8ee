"""A packet's life except its claims: sending, splitting, opening, viewing, retraction, expiry, proof.

Freezes and limits on sending are in `risk`. What transfers add is in `transfers`.
"""
