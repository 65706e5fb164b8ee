"""What is generated from the routes: the OpenAPI document and docs/api.md."""
