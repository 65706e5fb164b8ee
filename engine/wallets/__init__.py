"""A user's money: balance, statement, receipts, withdrawals and the payouts they end in.

What money is sent for is elsewhere.
"""
