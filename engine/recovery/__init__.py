"""A lane that Redis has lost: noticing it, fencing it off, rebuilding it from the ledger."""
