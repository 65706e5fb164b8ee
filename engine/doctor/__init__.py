"""One line per check: is it configured, reachable and safe? Nothing here writes."""
