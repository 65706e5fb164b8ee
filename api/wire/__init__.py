"""Bytes to answers without the framework: connections, and the short way of a claim.

Nothing but the server imports it.
"""
