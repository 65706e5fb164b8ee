"""Expiry: what is left goes back, exactly and once, however late or however often the sweeper comes."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from engine.engine import Engine
from engine.errors import UnavailableError
from engine.ids import lane_of, may_be_in_campaign, new_packet_number
from engine.lanes import keys
from engine.lanes.clients import command
from engine.lanes.store import Store
from engine.packets import sending
from engine.packets.sweeper import sweep, sweep_lane
from engine.records import ClaimResult, Outcome, PacketState
from engine.running.processes import run_sweeper
from engine.settings import Settings
from engine.transfers.transfers import TransferState
from tests.support.scenes import (
    assert_books_balance,
    caught_up,
    changed,
    fund,
    let_time_run_out,
    persisting,
    send,
    settled,
    sweeping,
)
from tests.support.waiting import wait_until


async def refunds(engine: Engine) -> dict[str, list[int]]:
    """What went back, by packet."""
    rows = await engine.pool.fetch("SELECT from_account, amount_fen FROM transfers WHERE kind = 'refund'")
    found: dict[str, list[int]] = {}
    for row in rows:
        found.setdefault(str(row["from_account"]), []).append(row["amount_fen"])
    return found


async def test_the_rest_goes_back_to_the_sender(engine: Engine, settings: Settings) -> None:
    async with persisting(settings), sweeping(settings):
        sent = await send(engine, "alice", total_fen=1_000, count=10)
        won = [(await engine.claims.claim(sent.packet_id, user)).amount_fen for user in ("bob", "carol")]
        await let_time_run_out(engine, sent.packet_id)
        await settled(engine, sent.packet_id)
        await caught_up(engine)
    assert await refunds(engine) == {sent.packet_id: [1_000 - sum(won)]}
    assert (await engine.wallets.get("alice")).balance_fen == 1_000 - sum(won)
    view = await engine.views.packet(sent.packet_id)
    assert (view.state, view.remaining_count, view.claimed_fen) == (PacketState.EXPIRED, 8, sum(won))
    await assert_books_balance(engine.pool)


@pytest.mark.long
async def test_several_sweepers_over_hundreds_of_packets_give_each_back_once(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, senders = random.Random(7), [f"sender{number}" for number in range(5)]
    left: dict[str, int] = {}
    back: Counter[str] = Counter()
    async with persisting(settings):
        for number in range(240):
            sender = senders[number % 5]
            sent = await send(engine, sender, total_fen=500, count=5)
            users = [f"user{user}" for user in range(chance.randrange(6))]
            results = await asyncio.gather(*(engine.claims.claim(sent.packet_id, user) for user in users))
            left[sent.packet_id] = 500 - sum(result.amount_fen for result in results)
            back[sender] += left[sent.packet_id]
        await let_time_run_out(engine, *left)
        monkeypatch.setattr("engine.packets.sweeper.BATCH_MAX", 7)
        async with sweeping(settings), sweeping(settings), sweeping(settings):
            await settled(engine, *left)
            await caught_up(engine)
    assert await refunds(engine) == {packet_id: [rest] for packet_id, rest in left.items() if rest}
    # The ledger would refuse a second refund; it must not even be asked for one.
    assert await engine.pool.fetchval("SELECT count(*) FROM quarantine") == 0
    for sender in senders:
        assert (await engine.wallets.get(sender)).balance_fen == back[sender]
    assert await engine.pool.fetchval("SELECT sum(balance_fen) FROM accounts WHERE kind = 'custody'") == 0
    await assert_books_balance(engine.pool)


async def test_a_claim_after_the_time_never_wins_though_no_sweeper_came(engine: Engine) -> None:
    sent = await send(engine, count=5)
    first = await engine.claims.claim(sent.packet_id, "bob")
    await let_time_run_out(engine, sent.packet_id)
    late = await asyncio.gather(*(engine.claims.claim(sent.packet_id, f"late{number}") for number in range(20)))
    assert set(late) == {ClaimResult(Outcome.EXPIRED, 0)}
    assert await engine.claims.claim(sent.packet_id, "bob") == ClaimResult(Outcome.ALREADY, first.amount_fen)
    for lane in engine.lanes:
        await sweep_lane(engine.store, lane, 10, 1_000_000)
    assert await engine.claims.claim(sent.packet_id, "late0") == ClaimResult(Outcome.EXPIRED, 0)
    assert await engine.claims.claim(sent.packet_id, "bob") == ClaimResult(Outcome.ALREADY, first.amount_fen)


@pytest.mark.long
async def test_claims_and_the_sweeper_at_once_share_out_the_whole(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every packet's time runs out in the middle of its claims."""
    monkeypatch.setattr("engine.packets.sweeper.INTERVAL_S", 0.001)
    won: dict[str, int] = {}
    async with persisting(settings), sweeping(settings):
        for number in range(30):
            sent = await send(engine, total_fen=1_000, count=50)
            asked = [engine.claims.claim(sent.packet_id, f"user{user}") for user in range(20)]
            before = asyncio.gather(*asked[: number % 20 + 1])
            ending = asyncio.ensure_future(let_time_run_out(engine, sent.packet_id))
            after = asyncio.gather(*asked[number % 20 + 1 :])
            await ending
            won[sent.packet_id] = sum(result.amount_fen for result in await before + await after)
        await settled(engine, *won)
        await caught_up(engine)
    assert await refunds(engine) == {packet_id: [1_000 - fen] for packet_id, fen in won.items()}
    await assert_books_balance(engine.pool)


async def test_what_is_claimed_to_the_last_share_has_nothing_to_give_back(engine: Engine, settings: Settings) -> None:
    sent = await send(engine, count=2)
    await asyncio.gather(*(engine.claims.claim(sent.packet_id, user) for user in ("bob", "carol")))
    await let_time_run_out(engine, sent.packet_id)
    assert [await sweep_lane(engine.store, lane, 10, 1_000_000) for lane in engine.lanes] == [0, 0]
    async with persisting(settings), sweeping(settings):
        await settled(engine, sent.packet_id)
        await caught_up(engine)
    assert await refunds(engine) == {}
    assert (await engine.views.packet(sent.packet_id)).state is PacketState.EXHAUSTED


async def test_what_is_not_due_stays_and_what_is_due_is_closed_within_the_bound(settings: Settings) -> None:
    async with Engine.open(changed(settings, lanes=1)) as engine:
        due = [(await send(engine)).packet_id for _ in range(7)]
        young = await send(engine)
        await let_time_run_out(engine, *due)
        assert [await sweep_lane(engine.store, 0, 5, 1_000_000) for _ in range(3)] == [5, 2, 0]
        assert (await engine.claims.claim(young.packet_id, "bob")).outcome is Outcome.CLAIMED
        assert await engine.store.states(due) == ["expired"] * 7


async def test_a_lane_that_is_fenced_does_not_hold_up_the_others(engine: Engine, settings: Settings) -> None:
    sent = [(await send(engine)).packet_id for _ in range(12)]
    await let_time_run_out(engine, *sent)
    await engine.store.fence(0)
    others = [packet_id for packet_id in sent if lane_of(packet_id) == 1]
    assert 0 < len(others) < len(sent)
    async with sweeping(settings):

        async def are_closed() -> bool:
            return await engine.store.states(others) == ["expired"] * len(others)

        await wait_until(are_closed, what="the other lane's closing")
    assert set(await engine.store.states(sent)) == {"open", "expired"}


async def test_the_sweeper_outlives_what_fails(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    due, failures, stop = Store.due, [UnavailableError("gone"), UnavailableError("gone")], asyncio.Event()

    async def due_later(store: Store, lane: int, now_ms: int, limit: int) -> list[str]:
        if failures:
            raise failures.pop()
        return await due(store, lane, now_ms, limit)

    monkeypatch.setattr(Store, "due", due_later)
    sent = await send(engine)
    await let_time_run_out(engine, sent.packet_id)
    sweeper = asyncio.create_task(sweep(engine.store, settings, engine.lanes, stop))

    async def is_closed() -> bool:
        return await engine.store.states([sent.packet_id]) == ["expired"]

    await wait_until(is_closed, what="the closing")
    stop.set()
    await sweeper
    assert failures == []


@pytest.mark.long
async def test_it_stops_when_it_is_told_at_whatever_moment(settings: Settings) -> None:
    """Cancelling a loop in the middle of a call to a server was swallowed by a client now and then: it went on."""
    moments = random.Random(1)
    for _ in range(60):
        stop = asyncio.Event()
        sweeper = asyncio.create_task(run_sweeper(settings, stop))
        asyncio.get_running_loop().call_later(moments.uniform(0.02, 0.08), stop.set)
        await asyncio.wait_for(sweeper, timeout=10)


async def test_a_transfer_whose_recipient_is_gone_from_redis_stops_nothing(engine: Engine) -> None:
    """As when the lane is lost between the two."""
    await fund(engine, "alice", 500)
    sent, _ = await engine.transfers.send(
        "alice", "bob", 500, arrives_after_s=7_200, idempotency_key="one", request_hash=b"transfer"
    )
    await command(engine.redis, "HSET", keys.packet(sent.transfer_id), "arrives_at_ms", 1)
    await command(engine.redis, "ZADD", keys.due(lane_of(sent.transfer_id)), "XX", 1, sent.transfer_id)
    await command(engine.redis, "DEL", keys.recipients(sent.transfer_id))
    assert await sweep_lane(engine.store, lane_of(sent.transfer_id), 10, 1_000_000) == 0
    assert (await engine.transfers.get(sent.transfer_id, "bob")).state is TransferState.DELAYED


async def test_a_transfer_from_before_campaigns_arrives_though_its_number_looks_like_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fund(engine, "alice", 500)
    monkeypatch.setattr(sending, "new_packet_number", partial(_like_a_campaigns, new_packet_number))
    sent, _ = await engine.transfers.send(
        "alice", "bob", 500, arrives_after_s=7_200, idempotency_key="one", request_hash=b"transfer"
    )
    assert may_be_in_campaign(sent.transfer_id)
    await command(engine.redis, "HSET", keys.packet(sent.transfer_id), "arrives_at_ms", 1)
    await command(engine.redis, "ZADD", keys.due(lane_of(sent.transfer_id)), "XX", 1, sent.transfer_id)
    await sweep_lane(engine.store, lane_of(sent.transfer_id), 10, 1_000_000)
    assert await engine.store.claim_of(sent.transfer_id, "bob") is not None


def _like_a_campaigns(drawn: Callable[..., str], lane: int, volume: int, *, in_campaign: bool, of_coupons: bool) -> str:
    """One number in 100,000 was so."""
    assert not in_campaign
    assert not of_coupons
    return drawn(lane, volume, in_campaign=True)
