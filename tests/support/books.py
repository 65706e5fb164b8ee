"""Books for the tests of the ledger by itself: packets that are paid for, and changes applied to them by the batch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import asyncpg

from engine.events import Change, Claims, Ending, Opening
from engine.ids import new_packet_number
from engine.ledger import money
from engine.ledger.database import Connection
from engine.ledger.posting import Applied, Ledger
from engine.packets import sending
from engine.records import FEN_MAX, PacketState
from engine.wallets import assets, wallets

UNKNOWN = 1_000_000_000_000_000_001
AT_MS = 1_750_000_000_000


async def deposit(connection: Connection, user_id: str, amount_fen: int) -> None:
    """Put money from outside into a wallet, as the API does."""
    key = uuid4().hex
    values = ([key], [user_id], [key], [b"body"], [amount_fen], FEN_MAX)
    assert await connection.fetchval(wallets.SQL["deposit"], *values) == "done"


async def issue(connection: Connection, user_id: str, amount: int, asset: str) -> None:
    """Make some of an asset for a user, as the API does. The asset is made if there is none."""
    sql = assets.SQL
    await connection.fetchval(sql["add"], asset, 0, asset)
    await connection.execute(sql["create_holding"], user_id, asset)
    holding = await connection.fetchval(sql["lock_holding"], user_id, asset)
    issuer = (await connection.fetch(sql["asset"], asset))[0]["issuer"]
    assert await money.move(connection, "issue", payer=issuer, payee=holding, amount_fen=amount, at_ms=AT_MS)


@dataclass(kw_only=True)
class Books:
    """One lane of a ledger; numbers the changes it is given."""

    connection: asyncpg.Connection
    lane: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    position: int = 0

    async def packet(
        self, total_fen: int = 100, count: int = 5, number: int | None = None, asset: str | None = None
    ) -> int:
        """A packet that ``alice`` has paid for."""
        await deposit(self.connection, "alice", total_fen)
        if asset is not None:
            await issue(self.connection, "alice", total_fen, asset)
        number = number or int(new_packet_number(self.lane))
        row = (
            number,
            total_fen,
            count,
            "lucky",
            1,
            20_000,
            "",
            "{}",
            bytes(32),
            b"",
            AT_MS + 1,
            None,
            "packet",
            None,
            None,
        )
        columns = [[value] for value in row]
        assert await self.connection.fetchval(sending.SQL["send"], "alice", AT_MS, asset, *columns)
        return number

    def numbered(self, changes: Sequence[Change]) -> list[Change]:
        """The changes with the positions they have when they come next."""
        position, numbered = self.position, list[Change]()
        for change in changes:
            position += not is_exhaustion(change)
            numbered.append(change._replace(position=position))
        return numbered

    async def apply(self, *changes: Change) -> Applied:
        """Apply the changes as one batch."""
        numbered = self.numbered(changes)
        applied = await self.ledger.apply(self.connection, self.lane, self.position, numbered[-1].position, numbered)
        self.position = applied.position
        return applied

    async def balance(self, account: int | str) -> int:
        """What an account, or a user's wallet, holds."""
        column = "owner" if isinstance(account, str) else "account_id"
        query = f"SELECT balance_fen FROM accounts WHERE {column} = $1"
        balance_fen: int | None = await self.connection.fetchval(query, account)
        return balance_fen or 0

    async def packet_row(self, packet: int) -> asyncpg.Record:
        """The packet as the ledger has it."""
        row = await self.connection.fetchrow("SELECT * FROM packets WHERE packet_id = $1", packet)
        assert row is not None
        return row

    async def quarantine(self) -> list[dict[str, Any]]:
        """What was set aside in this lane."""
        rows = await self.connection.fetch("SELECT * FROM quarantine WHERE lane = $1 ORDER BY position", self.lane)
        return [dict(row) for row in rows]

    async def batches(self) -> list[dict[str, Any]]:
        """This lane's batches without the lane and the hash."""
        rows = await self.connection.fetch("SELECT * FROM batches WHERE lane = $1 ORDER BY position", self.lane)
        return [{name: value for name, value in row.items() if name not in ("lane", "hash")} for row in rows]


def is_exhaustion(change: Change) -> bool:
    return isinstance(change, Ending) and change.state is PacketState.EXHAUSTED


def opening(packet: int) -> Opening:
    return Opening(packet, AT_MS, 0)


def claim(packet: int, user_id: str, slot: int, amount_fen: int) -> Claims:
    return Claims(packet, [user_id], [slot], [amount_fen], AT_MS + slot, 0)


def exhausted(packet: int) -> Ending:
    return Ending(packet, PacketState.EXHAUSTED, 0, 0, AT_MS, 0)


def expired(packet: int, remaining_count: int, remaining_fen: int) -> Ending:
    return Ending(packet, PacketState.EXPIRED, remaining_count, remaining_fen, AT_MS, 0)
