"""One module per resource: its bodies, endpoints and routes.

Shared parts are in `api` itself.
"""
