"""The console: pages for operators, as a process and an origin of its own.

It stands on the engine's use cases. It never uses the API's routes, and the API has none of its cookies.
"""
