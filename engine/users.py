"""What a user's id may look like."""

import re
from collections.abc import Sequence

USER_ID_PATTERN = r"[A-Za-z0-9._:@-]{1,64}"
USER_ID_RULE = "must be 1 to 64 of A-Z a-z 0-9 . _ : @ -"
_USER_ID = re.compile(USER_ID_PATTERN, re.ASCII)


def is_user_id(text: str) -> bool:
    """Whether ``text`` can name a user."""
    return _USER_ID.fullmatch(text) is not None


_USER_ID_BYTES = bytes(byte for byte in range(256) if is_user_id(chr(byte)))
_USER_ID_LENGTH_MAX = 64


def user_id_in(text: bytes) -> str | None:
    """The user's id that ``text`` is, None if it is none. As ``is_user_id``, for bytes off the wire, and faster."""
    if text.translate(None, _USER_ID_BYTES) or not 0 < len(text) <= _USER_ID_LENGTH_MAX:
        return None
    return text.decode("ascii")


def are_user_ids(texts: Sequence[str]) -> bool:
    """Whether each of ``texts``, of which there is at least one, can name a user."""
    lengths = set(map(len, texts))
    if min(lengths) == 0 or max(lengths) > _USER_ID_LENGTH_MAX:
        return False
    together = "".join(texts)
    return together.isascii() and not together.encode("ascii").translate(None, _USER_ID_BYTES)
