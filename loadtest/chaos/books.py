"""The ledger at the end, read directly from Postgres, without the engine."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

import asyncpg

_PACKETS = """
SELECT packet_id, sender, purpose, state::text, total_fen, count, recipients, expires_at_ms, settled_at_ms, balance_fen,
    coalesce((SELECT sum(amount_fen) FROM transfers WHERE kind = 'refund' AND from_account = packet_id), 0)::bigint
        AS refunded_fen
FROM packets JOIN accounts ON account_id = packet_id
"""
_CLAIMS = """
SELECT from_account, owner, slot, amount_fen FROM transfers JOIN accounts ON account_id = to_account
WHERE transfers.kind = 'claim'
"""
_WAVES = "SELECT packet_id, campaign_id, wave FROM campaign_buckets"
_DEPOSITS = """
SELECT owner, amount_fen FROM transfers JOIN accounts ON account_id = to_account WHERE transfers.kind = 'deposit'
"""
_WITHDRAWALS = "SELECT withdrawal_id, state FROM withdrawals"
_SUM = "SELECT sum(balance_fen)::bigint FROM accounts"
_UNSETTLED = """
SELECT count(*) + (SELECT count(*) FROM withdrawals WHERE state = 'processing') FROM packets
WHERE state = 'funded' OR (state = 'open' AND (expires_at_ms < $1 OR arrives_at_ms < $1))
    OR (ended_at_ms IS NOT NULL AND settled_at_ms IS NULL)
"""


class Share(NamedTuple):
    """A claim in the ledger."""

    packet_id: str
    user_id: str
    slot: int
    amount_fen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """A packet in the ledger. ``custody_fen``: the money it still holds."""

    sender: str
    state: str
    total_fen: int
    count: int
    recipients: frozenset[str] = frozenset()
    custody_fen: int = 0
    refunded_fen: int = 0
    is_transfer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """The whole ledger. ``deposits``: the amounts that came into each wallet. ``sum_fen``: the sum of all balances.

    ``processing``: how many of the ``withdrawals`` have not ended. ``waves``: packet -> its campaign and wave.
    """

    packets: dict[str, Packet] = field(default_factory=dict)
    claims: list[Share] = field(default_factory=list)
    deposits: dict[str, Counter[int]] = field(default_factory=dict)
    sum_fen: int = 0
    withdrawals: frozenset[str] = frozenset()
    processing: int = 0
    waves: dict[str, tuple[str, int]] = field(default_factory=dict)

    def senders(self) -> Counter[str]:
        """How many packets each user has sent, without the parts of campaigns."""
        return Counter(packet.sender for number, packet in self.packets.items() if number not in self.waves)


async def read(database_url: str) -> Books:
    """Read the books in one snapshot."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            packets = {
                str(row["packet_id"]): Packet(
                    sender=row["sender"],
                    state=row["state"],
                    total_fen=row["total_fen"],
                    count=row["count"],
                    recipients=frozenset(row["recipients"]),
                    custody_fen=row["balance_fen"],
                    refunded_fen=row["refunded_fen"],
                    is_transfer=row["purpose"] == "transfer",
                )
                for row in await connection.fetch(_PACKETS)
            }
            claims = [
                Share(str(row["from_account"]), row["owner"], row["slot"], row["amount_fen"])
                for row in await connection.fetch(_CLAIMS)
            ]
            deposits: defaultdict[str, Counter[int]] = defaultdict(Counter)
            for row in await connection.fetch(_DEPOSITS):
                deposits[row["owner"]][row["amount_fen"]] += 1
            withdrawals = await connection.fetch(_WITHDRAWALS)
            return Books(
                packets=packets,
                claims=claims,
                deposits=dict(deposits),
                sum_fen=await connection.fetchval(_SUM),
                withdrawals=frozenset(str(row["withdrawal_id"]) for row in withdrawals),
                waves={
                    str(row["packet_id"]): (str(row["campaign_id"]), row["wave"])
                    for row in await connection.fetch(_WAVES)
                },
                processing=sum(row["state"] == "processing" for row in withdrawals),
            )
    finally:
        await connection.close()


async def unsettled(database_url: str, before_ms: int) -> int:
    """How many packets are not open yet, not settled, or not closed although their time was over ``before_ms``.

    Transfers that should have arrived and withdrawals that have not ended also count.
    """
    connection = await asyncpg.connect(database_url, timeout=5, command_timeout=10)
    try:
        return int(await connection.fetchval(_UNSETTLED, before_ms))
    finally:
        await connection.close()
