"""Everything that talks to Redis: connections, keys, scripts, the store and the event stream.

Nothing here knows of Postgres.
"""
