"""One module per resource: the bodies it takes, its endpoints, its routes.

What all of them share is in `api` itself.
"""
