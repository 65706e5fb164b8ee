"""A packet's life except its claims: sending, splitting, opening, viewing, retraction, expiry, proof.

What a sender may do at all (freezes, limits on sending) is in `risk`; what a transfer adds is in `transfers`.
"""
