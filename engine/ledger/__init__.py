"""What all users of Postgres share: connections, schema, money, and the posting of events.

Nothing here knows of Redis.
"""
