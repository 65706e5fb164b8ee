"""`make demo`: a storm on a fresh engine, killed in the middle, and a report of it.

It is short on purpose: more users are in `load`, more faults in `chaos`.
"""
