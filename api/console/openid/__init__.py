"""Single sign-on by OpenID Connect: what the provider says of a person, and what must not be lost meanwhile.

Only ``provider`` knows Authlib, which is not always installed, and only ``opening`` imports ``provider``. Who may sign
in is not decided here: ``engine.operators`` does.
"""
