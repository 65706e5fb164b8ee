"""What every user of Postgres shares: connections, schema, money, and the posting of events.

Nothing here knows of Redis.
"""
