"""`make demo`: a storm on a fresh engine, killed in the middle, told as a story."""
