"""A user's money: balance, statement, receipts, withdrawals and their payouts.

Sending money is in other rooms.
"""
