"""The documents that are generated from the routes: OpenAPI and docs/api.md.

The sentences about a route are in its resource.
"""
