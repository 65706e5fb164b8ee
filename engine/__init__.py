"""Everything except HTTP: packets, lanes, the ledger, and the processes that work on them."""
