"""Whether a lane serves. If Redis has lost a lane: noticing it, fencing it, rebuilding it from the ledger.

`persisting` follows the lanes that serve.
"""
