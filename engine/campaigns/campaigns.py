"""An owner's campaigns: making, pausing and ending them.

Every wave's buckets are packets that arrive when the wave starts and expire when it ends, by the clocks of the servers
that give them. So nothing has to be switched on at that moment, and what is left goes back by itself.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import structlog

from engine.campaigns.draws import commitment, divided
from engine.campaigns.register import Known, Register
from engine.campaigns.terms import CampaignTerms
from engine.errors import (
    CampaignEndedError,
    FieldProblem,
    HongbaoError,
    InsufficientFundsError,
    InvalidFieldsError,
    NotSenderError,
    RecoveringError,
    UnavailableError,
)
from engine.lanes.replies import CloseReason
from engine.lanes.store import Store
from engine.ledger import idempotency, volumes
from engine.ledger.database import Connection, ledger_change
from engine.loops import every
from engine.observability.repeats import repeats
from engine.packets import sending
from engine.packets.split import SEED_BYTES
from engine.queries import load
from engine.records import Purpose, Terms
from engine.risk import limits, watch
from engine.risk.freezes import Freezes
from engine.settings import Settings

_LOG = structlog.get_logger()
SQL = load("campaigns")
_CLOSE_PAGE = 200
INTERVAL_S = 2.0
"""How often the sweeper looks for parts of ended campaigns that are still open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignMade:
    """The answer to making a campaign."""

    campaign_id: str
    total_fen: int
    count: int
    lanes: int
    commitment: str
    replayed: bool


class Campaigns:
    """An owner's use cases. Every method raises UnavailableError if a server that it needs does not answer."""

    def __init__(self, pool: asyncpg.Pool, store: Store, settings: Settings, register: Register) -> None:
        self._pool, self._store, self._settings, self._register = pool, store, settings, register
        self._freezes = Freezes(pool, store)

    async def make(
        self,
        owner: str,
        terms: Callable[[int], Awaitable[CampaignTerms]],
        *,
        address: str,
        idempotency_key: str,
        request_hash: bytes,
    ) -> CampaignMade:
        """Pay for a campaign, all of it in one transaction. The publisher then puts its shares into Redis.

        ``terms`` checks and returns the terms, by this clock. It is called for a first request only. Raises as
        ``Packets.send`` does.
        """

        async def check() -> tuple[CampaignTerms, int]:
            now_ms = await self._clock_ms()
            return await terms(now_ms), now_ms

        async def work(connection: Connection, checked: tuple[CampaignTerms, int]) -> dict[str, Any]:
            terms, now_ms = checked
            try:
                await self._admit(connection, owner, terms, address, now_ms)
                return await self._pay(connection, owner, terms, now_ms)
            except InvalidFieldsError as error:  # a packet has fields that a campaign has only in its waves
                problems = [
                    FieldProblem("waves", f"all together, {found.field} {found.message}") for found in error.problems
                ]
                raise InvalidFieldsError(problems) from None
            except InsufficientFundsError as error:
                raise InsufficientFundsError(str(error), field="waves") from None

        request = idempotency.Request(
            principal=owner, operation="campaign", key=idempotency_key, request_hash=request_hash
        )
        answered = await idempotency.once(self._pool, request, check=check, work=work)
        if answered.checked is not None and answered.checked[0].asset is None and not answered.replayed:
            total_fen = answered.checked[0].total_fen
            await watch.freeze_if_large(self._freezes, self._settings, owner, total_fen, what=Purpose.CAMPAIGN)
        return CampaignMade(**answered.answer, replayed=answered.replayed)

    async def _clock_ms(self) -> int:
        """The clock of a server that serves, whichever it is; once of another if it does not answer."""
        (lane,) = self._lanes(1)
        try:
            return await self._store.now_ms(lane)
        except UnavailableError:
            self._store.pause_server_of(lane)
            return await self._store.now_ms(self._lanes(1)[0])

    async def _admit(self, connection: Connection, owner: str, terms: CampaignTerms, address: str, at_ms: int) -> None:
        """As for a packet, by the whole of it: the parts are an affair of ours."""
        whole = _terms_of(terms, terms.total_fen, terms.count)
        await limits.admit(connection, self._settings, owner, whole, address=address, at_ms=at_ms)
        total_fen, what = terms.total_fen if terms.asset is None else 0, Purpose.CAMPAIGN.value
        await watch.look(connection, self._settings, owner, total_fen, what=what, address=address, at_ms=at_ms)

    async def _pay(self, connection: Connection, owner: str, terms: CampaignTerms, now_ms: int) -> dict[str, Any]:
        campaign_id, seed = str(await connection.fetchval(SQL["new_number"])), secrets.token_bytes(SEED_BYTES)
        volume, lanes = await volumes.last(connection), self._lanes(terms.buckets)
        buckets = []
        for number, wave in enumerate(terms.waves, start=1):
            times = sending.Times(now_ms, wave.starts_at_ms, wave.ends_at_ms)
            for lane, (total_fen, count) in zip(lanes, divided(wave.total_fen, wave.count, terms.buckets), strict=True):
                part = _terms_of(terms, total_fen, count)
                packet_id, committed = await sending.pay(connection, owner, part, lane=lane, volume=volume, times=times)
                buckets.append((number, packet_id, committed))
        committed = commitment(campaign_id, terms.odds_millionths, seed, buckets)
        await connection.execute(
            SQL["add"],
            *(int(campaign_id), owner, terms.name, terms.asset, terms.split.value, terms.odds_millionths, seed),
            *(committed, now_ms),
        )
        numbers = list(range(1, len(terms.waves) + 1))
        columns = [
            [wave.starts_at_ms for wave in terms.waves],
            [wave.ends_at_ms for wave in terms.waves],
            [wave.total_fen for wave in terms.waves],
            [wave.count for wave in terms.waves],
        ]
        await connection.execute(SQL["add_waves"], int(campaign_id), numbers, *columns)
        await connection.execute(
            SQL["add_buckets"],
            int(campaign_id),
            [int(packet_id) for _, packet_id, _ in buckets],
            [number for number, _, _ in buckets],
            list(range(terms.buckets)) * len(terms.waves),
        )
        return {
            "campaign_id": campaign_id,
            "total_fen": terms.total_fen,
            "count": terms.count,
            "lanes": terms.buckets,
            "commitment": committed.hex(),
        }

    def _lanes(self, buckets: int) -> list[int]:
        """Lanes for the buckets: those that serve first, in an order of chance."""
        chance, lanes = secrets.SystemRandom(), list(range(self._settings.lanes))
        chance.shuffle(lanes)
        lanes.sort(key=lambda lane: lane in self._store.paused)
        return lanes[:buckets]

    async def pause(self, campaign_id: str, owner: str, *, is_paused: bool) -> None:
        """Stop grabs, or let them go on. Every process does so within FRESH_S. A repeat changes nothing.

        Raises UnknownCampaignError, NotSenderError, CampaignEndedError.
        """
        await set_paused(self._pool, await self._of(campaign_id, owner), is_paused=is_paused)

    async def end(self, campaign_id: str, owner: str) -> None:
        """End a campaign. What is left goes back to its owner. A repeat changes nothing.

        Grabs stop within FRESH_S, and the buckets are closed at once, or by the sweeper if a server does not answer.
        Raises UnknownCampaignError, NotSenderError.
        """
        known = await self._of(campaign_id, owner)
        await set_ended(self._pool, known)
        await _close(self._store, [packet_id for wave in known.campaign.waves for packet_id in wave.buckets])

    async def _of(self, campaign_id: str, owner: str) -> Known:
        known = await self._register.known(campaign_id)
        if known.campaign.owner != owner:
            raise NotSenderError("Only its owner can do this with a campaign.")
        return known


async def set_paused(pool: asyncpg.Pool, known: Known, *, is_paused: bool) -> None:
    """Pause a campaign, or let it go on. Raises CampaignEndedError, UnavailableError."""
    async with ledger_change(pool) as connection:
        changed: str = await connection.execute(SQL["pause"], int(known.campaign.campaign_id), is_paused)
    known.doubt()
    if changed == "UPDATE 0":
        raise CampaignEndedError("The campaign has been ended.")


async def set_ended(pool: asyncpg.Pool, known: Known) -> None:
    """End a campaign: nobody grabs in it any more, and the sweeper closes its buckets. Raises UnavailableError."""
    async with ledger_change(pool) as connection:
        await connection.execute(SQL["end"], int(known.campaign.campaign_id))
    known.doubt()


async def follow_campaigns(pool: asyncpg.Pool, store: Store, stop: asyncio.Event) -> None:
    """Close what was ended, again and again until ``stop`` is set. Failures are logged and retried."""
    after = 0

    async def once() -> bool:
        nonlocal after
        after = await close_ended(pool, store, after=after)
        return after > 0

    await every("campaigns", INTERVAL_S, stop, once)


async def close_ended(pool: asyncpg.Pool, store: Store, *, after: int = 0) -> int:
    """Close buckets of campaigns that were ended. Returns ``after`` of the next page, 0 after the last.

    Raises asyncpg's errors. A server that does not answer is asked again the next time.
    """
    rows = await pool.fetch(SQL["to_close"], after, _CLOSE_PAGE)
    await _close(store, [str(row["packet_id"]) for row in rows])
    return rows[-1]["packet_id"] if len(rows) == _CLOSE_PAGE else 0


async def _close(store: Store, packet_ids: Sequence[str]) -> None:
    """Close buckets, each server's one after another, so that a server that hangs delays nobody else."""
    await asyncio.gather(*(_close_on_server(store, part) for part in store.by_server(packet_ids)))


async def _close_on_server(store: Store, packet_ids: Sequence[str]) -> None:
    for packet_id in packet_ids:
        try:
            await store.close(packet_id, CloseReason.RETURNED)
        except HongbaoError as error:
            if times := repeats.times(("not_closed", packet_id), str(error)):
                _LOG.warning("campaign_not_closed", packet_id=packet_id, error=str(error), times=times)
            if not isinstance(error, RecoveringError):  # which is of one lane; else each would wait as long
                return


def _terms_of(terms: CampaignTerms, total_fen: int, count: int) -> Terms:
    return Terms(
        total_fen=total_fen,
        count=count,
        split=terms.split,
        min_fen=terms.min_fen,
        max_fen=terms.max_fen,
        ttl_s=0,
        greeting=terms.name,
        recipients=(),
        purpose=Purpose.CAMPAIGN,
        asset=terms.asset,
    )
