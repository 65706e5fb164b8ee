"""China's days: its time zone, festivals and working days.

The product's rules for these days are in `packets` and `risk`.
"""
