"""What users are to each other: the names under which others see them.

Their money is in `wallets`, what they may do in `risk`, and how their tokens are checked in `access`.
"""
