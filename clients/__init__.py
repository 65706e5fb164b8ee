"""Clients of the HTTP API. What is made from the OpenAPI document is made by ``clients.generator``."""
