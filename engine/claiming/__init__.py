"""The path of a claim: batching, acknowledging, and answers about packets that have left Redis.

Sending and closing are in `packets`.
"""
