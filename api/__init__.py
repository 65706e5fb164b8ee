"""HTTP: routes, payloads, problems, tokens and bounds.

What a request does is in `engine`. What only one resource needs is in `resources`.
"""
