"""An owner's campaigns: making, pausing and ending them.

Every wave's buckets are packets that arrive when the wave starts and expire when it ends, by the clocks of the servers
that give them. So nothing has to be switched on at that moment, and what is left goes back by itself.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import asyncpg
import structlog

from engine.campaigns.draws import MONEY, commitment, divided
from engine.campaigns.register import Campaign, Known, Register
from engine.campaigns.terms import SECONDS_MAX, WINS_MAX, CampaignTerms, PrizeTerms, Who
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
"""How often the sweeper looks for parts of ended campaigns that are still open, and of waves that were extended."""
EXTENDED_BEFORE_MS = 3_000
"""How long before its end a wave can be extended: all servers must hear of it in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignMade:
    """The answer to making a campaign."""

    campaign_id: str
    count: int
    lanes: int
    commitment: str
    replayed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """A user's grants in a campaign. ``wins``: how many shares they may win in all."""

    campaign_id: str
    user_id: str
    wins: int
    ends_at_ms: int
    replayed: bool


def request_of(owner: str, idempotency_key: str, request_hash: bytes) -> idempotency.Request:
    """A request for a campaign, by which it is known whether it was paid for."""
    return idempotency.Request(principal=owner, operation="campaign", key=idempotency_key, request_hash=request_hash)


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
                raise InvalidFieldsError([_of_campaign(found) for found in error.problems]) from None
            except InsufficientFundsError as error:
                raise InsufficientFundsError(str(error), field="waves") from None

        request = request_of(owner, idempotency_key, request_hash)
        answered = await idempotency.once(self._pool, request, check=check, work=work)
        if answered.checked is not None and not answered.replayed:
            total_fen = answered.checked[0].budgets_fen.get(None, 0)
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
        budgets = terms.budgets_fen
        for asset, budget_fen in budgets.items():
            whole = _terms_of(terms.name, terms.waves[0].prizes[0], budget_fen, terms.count, asset=asset)
            await limits.admit(connection, self._settings, owner, whole, address=address, at_ms=at_ms)
        total_fen, what = budgets.get(None, 0), Purpose.CAMPAIGN.value
        await watch.look(connection, self._settings, owner, total_fen, what=what, address=address, at_ms=at_ms)

    async def _pay(self, connection: Connection, owner: str, terms: CampaignTerms, now_ms: int) -> dict[str, Any]:
        campaign_id, seed = str(await connection.fetchval(SQL["new_number"])), secrets.token_bytes(SEED_BYTES)
        buckets = await self._pay_buckets(connection, owner, terms, now_ms)
        committed = commitment(
            campaign_id,
            terms.odds_millionths,
            seed,
            [(bucket.wave, bucket.asset or MONEY, bucket.packet_id, bucket.commitment) for bucket in buckets],
        )
        number, entry = int(campaign_id), terms.entry
        await connection.execute(
            SQL["add"],
            *(number, owner, terms.name, terms.odds_millionths, seed, committed, now_ms),
            *(entry.who.value, entry.wave_wins_max, entry.wins_max, entry.interval_ms, list(entry.guests), entry.label),
        )
        await connection.execute(
            SQL["add_waves"],
            number,
            list(range(1, len(terms.waves) + 1)),
            [wave.starts_at_ms for wave in terms.waves],
            [wave.ends_at_ms for wave in terms.waves],
        )
        prizes = [
            (wave_number, prize_number, prize.asset, prize.split.value, prize.total_fen, prize.count)
            for wave_number, wave in enumerate(terms.waves, start=1)
            for prize_number, prize in enumerate(wave.prizes, start=1)
        ]
        await connection.execute(SQL["add_prizes"], number, *map(list, zip(*prizes, strict=True)))
        rows = [(int(bucket.packet_id), bucket.wave, bucket.prize, place) for place, bucket in enumerate(buckets)]
        await connection.execute(SQL["add_buckets"], number, *map(list, zip(*rows, strict=True)))
        return {
            "campaign_id": campaign_id,
            "count": terms.count,
            "lanes": terms.lanes,
            "commitment": committed.hex(),
        }

    async def _pay_buckets(
        self, connection: Connection, owner: str, terms: CampaignTerms, now_ms: int
    ) -> "list[_Bucket]":
        """Pay for a packet per part of each prize. A wave's parts are spread over the lanes one after another."""
        volume, lanes = await volumes.last(connection), self._lanes(terms.lanes)
        buckets = []
        for wave_number, wave in enumerate(terms.waves, start=1):
            times, turn = sending.Times(now_ms, wave.starts_at_ms, wave.ends_at_ms), cycle(lanes)
            for prize_number, prize in enumerate(wave.prizes, start=1):
                parts = divided(prize.total_fen, prize.count, terms.buckets_of(prize))
                for lane, (total_fen, count) in zip(turn, parts, strict=False):
                    part = _terms_of(terms.name, prize, total_fen, count, asset=prize.asset)
                    try:
                        paid = await sending.pay(connection, owner, part, lane=lane, volume=volume, times=times)
                    except InvalidFieldsError as error:
                        raise _of_wave(error, wave_number - 1) from None
                    buckets.append(_Bucket(wave_number, prize_number, prize.asset, *paid))
        return buckets

    def _lanes(self, count: int) -> list[int]:
        """So many lanes: those that serve first, in an order of chance."""
        chance, lanes = secrets.SystemRandom(), list(range(self._settings.lanes))
        chance.shuffle(lanes)
        lanes.sort(key=lambda lane: lane in self._store.paused)
        return lanes[:count]

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

    async def extend(self, campaign_id: str, owner: str, wave_number: int, ends_at_ms: int) -> None:
        """Let a wave that is not over last longer. Every process knows of it within FRESH_S. A repeat changes nothing.

        A part whose server does not answer is extended by the sweeper, if it answers before the part is over. Raises
        UnknownCampaignError, NotSenderError, CampaignEndedError, InvalidFieldsError.
        """
        known = await self._of(campaign_id, owner)
        async with ledger_change(self._pool) as connection:
            (row,) = await connection.fetch(SQL["lock"], int(campaign_id))
            ends_ms = [wave["ends_at_ms"] for wave in await connection.fetch(SQL["waves"], int(campaign_id))]
            campaign = known.campaign.ending(ends_ms)
            if row["ended_at_ms"] is not None:
                raise CampaignEndedError("The campaign has been ended.")
            check_extension(campaign, wave_number, ends_at_ms, row["now_ms"])
            until_ms = await connection.fetchval(SQL["coupons_until"], int(campaign_id), wave_number)
            if until_ms is not None and ends_at_ms > max(until_ms, campaign.waves[wave_number - 1].ends_at_ms):
                rule = f"must be at most {until_ms}, when the time of coupons in the wave is over"
                raise InvalidFieldsError([FieldProblem("ends_at_ms", rule)])
            await connection.execute(SQL["extend"], int(campaign_id), wave_number, ends_at_ms, row["now_ms"])
            await connection.execute(SQL["extend_packets"], int(campaign_id), wave_number, ends_at_ms)
        known.doubt()
        await _extend(self._store, dict.fromkeys(campaign.waves[wave_number - 1].buckets, ends_at_ms))

    async def grant(
        self, campaign_id: str, user_id: str, wins: int, *, idempotency_key: str, request_hash: bytes
    ) -> Granted:
        """Let a user win ``wins`` shares more, as the result of a game may be.

        Raises UnknownCampaignError, CampaignEndedError, InvalidFieldsError if the campaign admits others or the user
        would have more than the campaign's bound, and as ``idempotency.once`` does.
        """

        async def check() -> Campaign:
            known = await self._register.known(campaign_id)
            campaign = known.campaign
            if known.ended_at_ms is not None or known.clock_ms() >= campaign.waves[-1].ends_at_ms:
                raise CampaignEndedError("The campaign is over.")
            if campaign.who is not Who.ADMITTED:
                raise InvalidFieldsError([FieldProblem("campaign_id", "must be a campaign whose `who` is admitted")])
            return campaign

        async def work(connection: Connection, campaign: Campaign) -> dict[str, Any]:
            granted: int = await connection.fetchval(SQL["grant"], int(campaign_id), user_id, wins)
            most = campaign.wins_max or WINS_MAX
            if granted > most:
                rule = f"must be at most {max(0, most - granted + wins)}: the user may win {most} in this campaign"
                raise InvalidFieldsError([FieldProblem("wins", rule)])
            return {"wins": granted}

        request = idempotency.Request(
            principal=user_id, operation="grant", key=idempotency_key, request_hash=request_hash
        )
        answered = await idempotency.once(self._pool, request, check=check, work=work)
        campaign = (await self._register.known(campaign_id)).campaign  # as it is now: a repeat may follow an extension
        return Granted(
            campaign_id=campaign_id,
            user_id=user_id,
            wins=answered.answer["wins"],
            ends_at_ms=campaign.waves[-1].ends_at_ms,
            replayed=answered.replayed,
        )

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


def check_extension(campaign: Campaign, wave_number: int, ends_at_ms: int, now_ms: int) -> None:
    """Raise InvalidFieldsError unless a wave may end at ``ends_at_ms``."""
    wave = campaign.waves[wave_number - 1] if wave_number <= len(campaign.waves) else None
    if wave is None:
        raise InvalidFieldsError([FieldProblem("wave", f"must be from 1 to {len(campaign.waves)}")])
    latest_ms = wave.starts_at_ms + SECONDS_MAX * 1000
    if wave_number < len(campaign.waves):
        latest_ms = min(latest_ms, campaign.waves[wave_number].starts_at_ms)
    if now_ms + EXTENDED_BEFORE_MS > wave.ends_at_ms and ends_at_ms != wave.ends_at_ms:
        rule = f"can be changed until {EXTENDED_BEFORE_MS // 1000} s before the wave is over"
        raise InvalidFieldsError([FieldProblem("ends_at_ms", rule)])
    if not wave.ends_at_ms <= ends_at_ms <= latest_ms:
        raise InvalidFieldsError([FieldProblem("ends_at_ms", f"must be from {wave.ends_at_ms} to {latest_ms}")])


async def follow_campaigns(pool: asyncpg.Pool, store: Store, stop: asyncio.Event) -> None:
    """Close what was ended and extend what was extended, again and again until ``stop`` is set.

    Failures are logged and retried.
    """
    after = extended_after = 0

    async def once() -> bool:
        nonlocal after, extended_after
        after = await close_ended(pool, store, after=after)
        extended_after = await extend_again(pool, store, after=extended_after)
        return after > 0 or extended_after > 0

    await every("campaigns", INTERVAL_S, stop, once)


async def close_ended(pool: asyncpg.Pool, store: Store, *, after: int = 0) -> int:
    """Close buckets of campaigns that were ended. Returns ``after`` of the next page, 0 after the last.

    Raises asyncpg's errors. A server that does not answer is asked again the next time.
    """
    rows = await pool.fetch(SQL["to_close"], after, _CLOSE_PAGE)
    await _close(store, [str(row["packet_id"]) for row in rows])
    return rows[-1]["packet_id"] if len(rows) == _CLOSE_PAGE else 0


async def extend_again(pool: asyncpg.Pool, store: Store, *, after: int = 0) -> int:
    """Extend buckets of extended waves whose server may not have answered, or had not loaded them yet.

    Returns as ``close_ended`` does.
    """
    rows = await pool.fetch(SQL["to_extend"], after, _CLOSE_PAGE)
    await _extend(store, {str(row["packet_id"]): row["expires_at_ms"] for row in rows})
    return rows[-1]["packet_id"] if len(rows) == _CLOSE_PAGE else 0


async def _extend(store: Store, ends_ms: Mapping[str, int]) -> None:
    """Let buckets be claimed until these times, as ``_close`` goes about it."""

    async def extend(packet_id: str) -> None:
        await store.extend(packet_id, ends_ms[packet_id])

    await asyncio.gather(*(_on_server(part, extend, "not_extended") for part in store.by_server(list(ends_ms))))


async def _close(store: Store, packet_ids: Sequence[str]) -> None:
    """Close buckets, each server's one after another, so that a server that hangs delays nobody else."""

    async def close(packet_id: str) -> None:
        await store.close(packet_id, CloseReason.RETURNED)

    await asyncio.gather(*(_on_server(part, close, "not_closed") for part in store.by_server(packet_ids)))


async def _on_server(packet_ids: Sequence[str], change: Callable[[str], Awaitable[None]], otherwise: str) -> None:
    for packet_id in packet_ids:
        try:
            await change(packet_id)
        except HongbaoError as error:
            if times := repeats.times((otherwise, packet_id), str(error)):
                _LOG.warning(f"campaign_{otherwise}", packet_id=packet_id, error=str(error), times=times)
            if not isinstance(error, RecoveringError):  # which is of one lane; else each would wait as long
                return


def _of_campaign(found: FieldProblem) -> FieldProblem:
    """A problem of a packet that stands for the whole campaign, or one that names its wave already."""
    if found.field.startswith("waves"):
        return found
    return FieldProblem("waves", f"all together, {found.field} {found.message}")


def _of_wave(error: InvalidFieldsError, place: int) -> InvalidFieldsError:
    """Problems of a wave's bucket as the wave's: a packet's ``ttl_s`` is how long the wave lasts."""
    names = {"ttl_s": f"waves[{place}].seconds"}
    return InvalidFieldsError(
        [
            FieldProblem(names[found.field], found.message)
            if found.field in names
            else FieldProblem(f"waves[{place}].prizes", f"{found.field} {found.message}")
            for found in error.problems
        ]
    )


@dataclass(frozen=True, slots=True)
class _Bucket:
    """A packet of a campaign that was paid for."""

    wave: int
    prize: int
    asset: str | None
    packet_id: str
    commitment: bytes


def _terms_of(name: str, prize: PrizeTerms, total_fen: int, count: int, *, asset: str | None) -> Terms:
    if prize.min_fen is None or prize.max_fen is None:
        raise AssertionError("checked terms have their bounds")
    return Terms(
        total_fen=total_fen,
        count=count,
        split=prize.split,
        min_fen=prize.min_fen,
        max_fen=prize.max_fen,
        ttl_s=0,
        greeting=name,
        recipients=(),
        purpose=Purpose.CAMPAIGN,
        asset=asset,
    )
