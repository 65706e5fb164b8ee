"""From bytes to answers without the framework: connections, and the short way of a claim.

Only the server imports it.
"""
