"""Who may ask: secrets, tokens, certificates.

The scope that a route wants belongs to `api`; what an account may do belongs to `risk`.
"""
