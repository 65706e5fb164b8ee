"""China's days: its time zone, festivals and working days.

What the product allows on a day belongs to `packets` or `risk`.
"""
