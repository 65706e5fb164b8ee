"""The path of a claim: batching, acknowledging, and answers about packets that have left Redis.

Sending and closing are in `packets`. Whether a lane serves is in `recovery`; `checkpoints` here only waits for the
ledger.
"""
