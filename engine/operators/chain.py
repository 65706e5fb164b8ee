"""The hash chain of the operator log: what exactly each hash covers, for who writes it and for the audit.

A row's hash is SHA-256 over the hash of the row before it (nothing for the first) and the JSON array of the row's
columns, in the order of ``COLUMNS``, without spaces, in UTF-8.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import orjson

COLUMNS = (
    *("number", "at_ms", "operator", "role", "session_id", "address", "action", "subject_kind", "subject_id"),
    *("arguments", "reason", "outcome", "told", "approval_id", "about"),
)


def row_hash(previous: bytes, values: Sequence[Any]) -> bytes:
    """The hash of a row. ``values``: those of ``COLUMNS``."""
    return sha256(previous + orjson.dumps(list(values))).digest()
