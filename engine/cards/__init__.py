"""Cards to collect 集五福: sets, how their cards move between users, and the pool that those with all of them share.

Cards are assets of `wallets`, and whoever drops them does it by `packets` or `campaigns`. What is here moves cards
between users by a set's own ways, spends complete sets, and draws.
"""
