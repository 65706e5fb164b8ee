"""Whether a lane serves, and a lane that Redis has lost: noticing it, fencing it off, rebuilding it from the ledger.

Following a lane that serves is in `persisting`.
"""
