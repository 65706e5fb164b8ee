"""One line per thing that is configured, reachable and safe, or is not. Nothing here writes."""
