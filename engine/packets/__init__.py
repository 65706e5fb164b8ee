"""A packet's life except its claims: sending, splitting, opening, viewing, retraction, expiry, proof."""
