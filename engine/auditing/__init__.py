"""Reading all the books and saying what is wrong: invariants, and the reconciliation of a day. Nothing here writes."""
