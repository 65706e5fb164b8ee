"""The Starlette front: routes, payloads, problems and tokens."""
