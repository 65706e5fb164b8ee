"""Money from person to person: packets of one share that are confirmed or arrive later.

How such a packet is paid, opened and returned is in `packets`.
"""
