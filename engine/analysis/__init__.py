"""What some days of the ledger look like: one picture, one table and one sentence for each question.

Postgres adds up, here are only its sums: no user and no claim is read one by one. What is wrong with the books is
reported by `auditing`. Only `pictures` and `charts` know matplotlib, and they are imported when something is drawn.
"""
