"""Makes the parts of the Python client that follow from the OpenAPI document: its models and its methods.

What belongs here: how a schema becomes a class, and an operation becomes a method. How a request is sent, repeated
and answered is written by hand, in ``clients/python/src/hongbao_client``.
"""
