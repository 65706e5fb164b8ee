"""What the tests of disputes share: a packet that was claimed, somebody who complains, an admin who decides."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from engine.disputes.filing import Complaint, Dispute, DisputeKind, DisputeState
from engine.engine import Engine
from engine.records import FreezeScope, SplitKind
from engine.settings import Settings
from tests.support.scenes import changed, persisting, send, settled

FRAUD, MINOR, FAULT = DisputeKind.FRAUD, DisputeKind.MINOR, DisputeKind.SYSTEM_FAULT
UPHELD, REJECTED = DisputeState.UPHELD, DisputeState.REJECTED


def with_small_disputes(settings: Settings) -> Settings:
    """Shares of a packet, which are smaller than what people transfer, are enough to be disputed."""
    return changed(settings, dispute_above_fen=1_000, share_fen_max=100_000)


@dataclass(frozen=True, slots=True)
class Scene:
    """``number``: alice's packet of two shares of 2,000, which bob and carol have; it is in the ledger."""

    engine: Engine
    number: str
    at_ms: int

    async def file(self, kind: DisputeKind = FRAUD, complainant: str = "alice", **changes: object) -> Dispute:
        values = {"number": self.number, "at_ms": self.at_ms, "counterparty": "bob", "evidence": ("he lied",)}
        return await self.engine.disputes.file(complainant, Complaint(kind, **(values | changes)))  # type: ignore[arg-type]

    async def decide(self, dispute: Dispute, outcome: DisputeState) -> Dispute:
        number = int(dispute.dispute_id)
        return await self.engine.dispute_decisions.decide(number, outcome, reason="seen", decided_by="root")

    async def balance(self, user: str) -> int:
        return (await self.engine.wallets.get(user)).balance_fen

    async def balances(self) -> list[int]:
        return [await self.balance(user) for user in ("alice", "bob", "carol")]

    async def is_frozen(self, user: str) -> bool:
        return FreezeScope.ACCOUNT in await self.engine.freezes.in_force(user)

    async def corrections(self) -> int:
        count: int = await self.engine.pool.fetchval("SELECT count(*) FROM transfers WHERE kind = 'correction'")
        return count

    async def spend(self, user: str, amount_fen: int) -> None:
        """Move money out of a wallet, as into a packet."""
        query = "SELECT move_money('withdrawal', account_id, 4, $2, 1) FROM accounts WHERE owner = $1"
        assert await self.engine.pool.fetchval(query, user, amount_fen)


async def claimed_packet(engine: Engine, *users: str, sender: str = "alice", share_fen: int = 2_000) -> tuple[str, int]:
    """A packet of which each of these users has a share, and when it was paid."""
    count = len(users)
    sent = await send(
        engine, sender, total_fen=share_fen * count, count=count, split=SplitKind.EQUAL, max_fen=share_fen
    )
    for user in users:
        await engine.claims.claim(sent.packet_id, user)
    return sent.packet_id, (await engine.views.packet(sent.packet_id)).created_at_ms


@asynccontextmanager
async def open_scene(settings: Settings) -> AsyncIterator[Scene]:
    """An engine with a persister, and alice's packet in its ledger."""
    async with Engine.open(settings) as engine, persisting(settings):
        number, at_ms = await claimed_packet(engine, "bob", "carol")
        await settled(engine, number)
        yield Scene(engine, number, at_ms)
