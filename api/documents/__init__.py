"""The documents that are generated from the routes: OpenAPI and docs/api.md."""
