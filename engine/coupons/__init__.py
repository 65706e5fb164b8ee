"""Coupons 优惠券: batches of them, their codes, who holds which, and what becomes of each.

The ledger counts coupons like any asset, and packets give them away. What is here says which coupon a share is.
"""
