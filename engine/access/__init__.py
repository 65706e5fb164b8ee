"""Authentication: secrets, tokens, certificates.

The scope of a route belongs to `api`. What an account may do belongs to `risk`.
"""
