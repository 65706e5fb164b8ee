"""The live storm: what the counters of all processes say, second by second, kept for a day.

What is here reads counters that are there anyway. It adds nothing to the way of a claim.
"""
