"""Everything that is not HTTP: packets, lanes, the ledger, and the processes that keep them."""
