"""`make demo`: a storm on a fresh engine, killed in the middle, and a report of it."""
