"""The hash chains: what exactly each hash covers, for the persister that writes it and the audit that checks it.

A batch's hash is SHA-256 over the hash of the batch before it in its lane (32 zero bytes for the first), its own row
as eight 64-bit integers in network order (lane, position, position_before, opened, claims, closed, refunds,
quarantined), and one SHA-256 each over its claims, its refunds and what it set aside, in the order of positions:

- a claim is its row of a binary COPY of ``claim_rows.COLUMNS``: 79 bytes, with kind, accounts, amount, time, slot and
  position;
- a refund is ``refund <from> <to> <amount_fen> <at_ms> <position>`` and a line feed, in ASCII;
- a change that was set aside is the JSON array of ``ASIDE_COLUMNS`` without spaces, and a line feed.

Ledger entries outside batches have a chain per paying account. The lock of its row orders the chain. The hash is
SHA-256 over the hash of the entry before it (nothing for the first) and ``<kind> <from> <to> <amount_fen> <at_ms>``
(computed in SQL, where the entry is written).
"""

import struct
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import orjson

ASIDE_COLUMNS = (
    "position",
    "packet_id",
    "kind",
    "user_id",
    "slot",
    "amount_fen",
    "at_ms",
    "reason",
    "state",
    "remaining_count",
)
_FIRST = bytes(32)
_BATCH = struct.Struct(">8q")


class Counts(NamedTuple):
    """The counts in a batch's row."""

    opened: int
    claims: int
    closed: int
    refunds: int
    quarantined: int


class Refund(NamedTuple):
    """A refund's ledger entry."""

    from_account: int
    to_account: int
    amount_fen: int
    at_ms: int
    position: int


def rows_digest(
    claims: Iterable[bytes | memoryview], refunds: Iterable[Refund], asides: Iterable[Sequence[Any]]
) -> bytes:
    """The digest of a batch's rows. ``claims``: pieces of binary COPY rows; ``asides``: values of ASIDE_COLUMNS."""
    claims_hash, refunds_hash, asides_hash = sha256(), sha256(), sha256()
    for piece in claims:
        claims_hash.update(piece)
    for refund in refunds:
        refunds_hash.update(b"refund %d %d %d %d %d\n" % refund)
    for aside in asides:
        asides_hash.update(orjson.dumps(list(aside)) + b"\n")
    return claims_hash.digest() + refunds_hash.digest() + asides_hash.digest()


def batch_hash(previous: bytes | None, batch: tuple[int, int, int], counts: Counts, digest: bytes) -> bytes:
    """A batch's hash. ``previous``: the hash of the batch before (None for a lane's first). ``digest``: of its rows.

    ``batch``: its lane, its position, and the position before it.
    """
    row = _BATCH.pack(*batch, *counts)
    return sha256(b"".join((previous or _FIRST, row, digest))).digest()


def transfer_hash(previous: bytes | None, values: tuple[str, int, int, int, int]) -> bytes:
    """The hash of a ledger entry outside batches. ``previous``: the hash of the same account's entry before it.

    ``values``: its kind, the paying and the receiving account, its amount in fen and its time in ms.
    """
    return sha256((previous or b"") + " ".join(map(str, values)).encode()).digest()
