"""Packet rain 红包雨: a pool of shares that is given out in waves, by several lanes at once.

A wave's shares lie in packets of `packets`, one per lane. What is here chooses which of them a user asks, and in what
order, so that nobody wins twice in a wave.
"""
