"""Money from person to person: packets of one share that are confirmed or arrive later.

`packets` pays, opens and refunds such a packet.
"""
