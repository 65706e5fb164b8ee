"""What a user's id may look like."""

import re

USER_ID_PATTERN = r"[A-Za-z0-9._:@-]{1,64}"
USER_ID_RULE = "must be 1 to 64 of A-Z a-z 0-9 . _ : @ -"
_USER_ID = re.compile(USER_ID_PATTERN, re.ASCII)


def is_user_id(text: str) -> bool:
    """Whether ``text`` can name a user."""
    return _USER_ID.fullmatch(text) is not None
