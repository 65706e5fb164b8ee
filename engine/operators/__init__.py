"""Who works with the console: operators, roles, sign-in, sessions, their log, and actions that need two of them.

It knows nothing of HTTP, and nothing of what the actions do. Pages are in ``api.console``.
"""
