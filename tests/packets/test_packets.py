"""The use cases of packets: what is paid, opened, and told to those who claim."""

import asyncio
from collections import Counter
from uuid import uuid4

import pytest

from engine.engine import Engine
from engine.errors import (
    BusyError,
    InsufficientFundsError,
    InvalidFieldsError,
    NotInvitedError,
    OpeningError,
    RecoveringError,
    UnavailableError,
    UnknownPacketError,
)
from engine.ids import is_packet_number, lane_of, new_packet_number
from engine.lanes import keys
from engine.packets import sending
from engine.packets.sending import Sent
from engine.packets.split import commitment, split
from engine.packets.terms import terms_from
from engine.records import ClaimResult, Outcome, PacketState, SplitKind
from engine.settings import Settings
from tests.support.scenes import (
    assert_books_balance,
    caught_up,
    changed,
    fund,
    let_time_run_out,
    packet_keys,
    pay_only,
    persisting,
    send,
    settled,
    sweeping,
)
from tests.support.waiting import wait_until


async def send_unfunded(engine: Engine, total_fen: int = 1_000) -> Sent:
    terms = terms_from(settings=engine.settings, total_fen=total_fen, count=10, split=SplitKind.LUCKY)
    return await engine.packets.send("alice", terms, idempotency_key=uuid4().hex, request_hash=b"body")


async def drop_from_redis(engine: Engine, packet_id: str) -> None:
    """As when the time that a settled packet's keys are kept is over."""
    await engine.redis.delete(*(await packet_keys(engine)).get(packet_id, ["nothing"]))


async def test_sending_pays_and_opens(engine: Engine) -> None:
    sent = await send(engine, total_fen=1_000, count=10, greeting="恭喜发财")
    assert is_packet_number(sent.packet_id)
    assert (sent.state, sent.total_fen, sent.count, sent.replayed) == (PacketState.OPEN, 1_000, 10, False)
    assert (await engine.wallets.get("alice")).balance_fen == 0
    row = await engine.pool.fetchrow("SELECT * FROM packets")
    assert row is not None
    assert (str(row["packet_id"]), row["sender"], row["greeting"]) == (sent.packet_id, "alice", "恭喜发财")
    assert sent.expires_at_ms - row["created_at_ms"] == engine.settings.ttl_s_default * 1_000
    terms = (SplitKind.LUCKY, 1_000, 10, row["min_fen"], row["max_fen"], row["seed"])
    assert sent.commitment == commitment(sent.packet_id, *terms).hex() == row["commitment"].hex()
    await assert_books_balance(engine.pool)


async def test_shares_are_given_in_the_order_of_the_committed_split(engine: Engine) -> None:
    sent = await send(engine, total_fen=1_000, count=10)
    given = [(await engine.claims.claim(sent.packet_id, f"user{number}")).amount_fen for number in range(10)]
    row = await engine.pool.fetchrow("SELECT min_fen, max_fen, seed FROM packets")
    assert row is not None
    assert given == split(SplitKind.LUCKY, 1_000, 10, *row).tolist()


async def test_without_the_money_nothing_is_recorded(engine: Engine) -> None:
    for balance_fen in (0, 999):
        if balance_fen:
            await fund(engine, "alice", balance_fen)
        with pytest.raises(InsufficientFundsError):
            await send_unfunded(engine)
    for table in ("packets", "idempotency"):
        count = await engine.pool.fetchval(
            f"SELECT count(*) FROM {table} WHERE to_jsonb({table})->>'operation' IS DISTINCT FROM 'deposit_into'"
        )
        assert count == 0, table
    assert await engine.pool.fetchval("SELECT count(*) FROM accounts WHERE kind = 'custody'") == 0
    assert (await engine.wallets.get("alice")).balance_fen == 999
    assert await packet_keys(engine) == {}
    await assert_books_balance(engine.pool)


async def test_sendings_at_once_never_overdraw(engine: Engine) -> None:
    await fund(engine, "alice", 7_500)
    answers = await asyncio.gather(*(send_unfunded(engine) for _ in range(30)), return_exceptions=True)
    assert Counter(type(answer) for answer in answers) == {Sent: 7, InsufficientFundsError: 23}
    assert (await engine.wallets.get("alice")).balance_fen == 500
    assert await engine.pool.fetchval("SELECT count(*) FROM packets") == 7
    await assert_books_balance(engine.pool)


async def test_a_number_that_is_taken_is_not_used_again(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await send(engine)
    numbers = [new_packet_number(1), first.packet_id, first.packet_id]
    monkeypatch.setattr(sending, "new_packet_number", lambda _lane, _volume, **_: numbers.pop())
    second = await send(engine)
    assert second.packet_id != first.packet_id
    assert numbers == []
    monkeypatch.setattr(sending, "new_packet_number", lambda _lane, _volume, **_: first.packet_id)
    with pytest.raises(UnavailableError):
        await send(engine)
    assert (await engine.wallets.get("alice")).balance_fen == 1_000  # what could not be sent
    await assert_books_balance(engine.pool)


async def test_packets_spread_over_the_lanes(engine: Engine) -> None:
    sent = await asyncio.gather(*(send(engine) for _ in range(40)))
    assert {lane_of(packet.packet_id) for packet in sent} == set(engine.lanes)


async def test_a_preview_carries_a_bounded_number_of_shares(engine: Engine) -> None:
    most = engine.settings.preview_count_max
    for count in (most, most + 1):
        terms = terms_from(settings=engine.settings, total_fen=count, count=count, split=SplitKind.EQUAL)
        if count == most:
            assert await engine.packets.preview(terms) == [1] * most
        else:
            with pytest.raises(InvalidFieldsError, match="count: must be at most 10000 for a preview"):
                await engine.packets.preview(terms)


async def test_a_preview_is_a_split_and_stores_nothing(engine: Engine) -> None:
    terms = terms_from(settings=engine.settings, total_fen=1_000, count=10, split=SplitKind.LUCKY)
    samples = [await engine.packets.preview(terms) for _ in range(5)]
    assert {(sum(sample), len(sample)) for sample in samples} == {(1_000, 10)}
    assert len({tuple(sample) for sample in samples}) > 1
    assert await engine.pool.fetchval("SELECT count(*) FROM packets") == 0


async def test_each_user_gets_one_share_and_the_last_ends_it(engine: Engine) -> None:
    sent = await send(engine, total_fen=1_000, count=10)
    users = [f"user{number % 50}" for number in range(500)]
    results = await asyncio.gather(*(engine.claims.claim(sent.packet_id, user) for user in users))
    assert Counter(result.outcome for result in results) == {
        Outcome.CLAIMED: 10,
        Outcome.ALREADY: 90,
        Outcome.EMPTY: 400,
    }
    by_user: dict[str, set[ClaimResult]] = {}
    for user, result in zip(users, results, strict=True):
        by_user.setdefault(user, set()).add(
            ClaimResult(Outcome.ALREADY, result.amount_fen) if result.amount_fen else result
        )
    assert all(len(told) == 1 for told in by_user.values())
    assert sum(next(iter(told)).amount_fen for told in by_user.values()) == 1_000


async def test_only_those_invited_may_claim(engine: Engine) -> None:
    sent = await send(engine, count=2, recipients=["bob", "carol"])
    with pytest.raises(NotInvitedError):
        await engine.claims.claim(sent.packet_id, "eve")
    assert (await engine.claims.claim(sent.packet_id, "bob")).outcome is Outcome.CLAIMED


async def test_a_number_nobody_has_is_unknown_in_any_lane(engine: Engine) -> None:
    for lane in (0, 1, 2, 999):
        with pytest.raises(UnknownPacketError):
            await engine.claims.claim(new_packet_number(lane), "bob")


async def test_a_packet_that_waits_to_be_opened_says_so(engine: Engine) -> None:
    packet_id = await pay_only(engine)
    with pytest.raises(OpeningError):
        await engine.claims.claim(packet_id, "bob")


async def test_a_large_packet_is_left_to_the_publisher(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.packets.opening.INLINE_COUNT_MAX", 20)
    async with Engine.open(settings) as engine:
        small = await send(engine, total_fen=1_000, count=20)
        large = await send(engine, total_fen=1_000, count=21)
        assert (small.state, large.state) == (PacketState.OPEN, PacketState.FUNDED)
        with pytest.raises(OpeningError):
            await engine.claims.claim(large.packet_id, "bob")


async def test_a_backlog_at_its_bound_makes_it_busy_until_the_ledger_has_caught_up(settings: Settings) -> None:
    tight = changed(settings, lanes=1, backlog_max=6)
    async with Engine.open(tight) as engine:
        sent = await send(engine, count=10)
        users = [f"user{number}" for number in range(10)]
        answers = await asyncio.gather(
            *(engine.claims.claim(sent.packet_id, user) for user in users), return_exceptions=True
        )
        assert Counter(type(answer) for answer in answers) == {ClaimResult: 5, BusyError: 5}
        assert (await engine.claims.claim(sent.packet_id, "user0")).outcome is Outcome.ALREADY
        async with persisting(tight):
            await caught_up(engine)
        assert (await engine.claims.claim(sent.packet_id, "user9")).outcome is Outcome.CLAIMED


async def test_many_claims_are_answered_in_their_order_each_for_itself(engine: Engine) -> None:
    sent = await send(engine, count=2, recipients=["bob", "carol"])
    waiting = await pay_only(engine)
    unknown = [new_packet_number(0), new_packet_number(500)]
    answers = await engine.claims.claim_many(
        [
            (sent.packet_id, "bob"),
            (unknown[0], "bob"),
            (sent.packet_id, "eve"),
            (waiting, "bob"),
            (sent.packet_id, "bob"),
            (unknown[1], "bob"),
            (sent.packet_id, "carol"),
        ]
    )
    kinds = [answer.outcome if isinstance(answer, ClaimResult) else type(answer) for answer in answers]
    assert kinds == [
        Outcome.CLAIMED,
        UnknownPacketError,
        NotInvitedError,
        OpeningError,
        Outcome.ALREADY,
        UnknownPacketError,
        Outcome.CLAIMED,
    ]
    amounts_fen = [answer.amount_fen for answer in answers if isinstance(answer, ClaimResult)]
    assert amounts_fen[0] == amounts_fen[1] > 0
    assert await engine.claims.claim_many([]) == []


async def test_a_claim_is_remembered_when_redis_has_dropped_the_packet(engine: Engine, settings: Settings) -> None:
    async with persisting(settings), sweeping(settings):
        gone = await send(engine, count=1)
        ran_out = await send(engine, count=2)
        first = [await engine.claims.claim(packet.packet_id, "bob") for packet in (gone, ran_out)]
        await let_time_run_out(engine, ran_out.packet_id)
        await settled(engine, gone.packet_id, ran_out.packet_id)
        await caught_up(engine)
    for packet in (gone, ran_out):
        await drop_from_redis(engine, packet.packet_id)
    again = [await engine.claims.claim(packet.packet_id, "bob") for packet in (gone, ran_out)]
    assert [result.outcome for result in again] == [Outcome.ALREADY, Outcome.ALREADY]
    assert [result.amount_fen for result in again] == [result.amount_fen for result in first]
    assert await engine.claims.claim(gone.packet_id, "eve") == ClaimResult(Outcome.EMPTY, 0)
    assert await engine.claims.claim(ran_out.packet_id, "eve") == ClaimResult(Outcome.EXPIRED, 0)


async def test_an_open_packet_that_redis_has_lost_is_not_called_over(engine: Engine, settings: Settings) -> None:
    sent = await send(engine)
    async with persisting(settings):
        await caught_up(engine)
    await drop_from_redis(engine, sent.packet_id)
    with pytest.raises(RecoveringError):
        await engine.claims.claim(sent.packet_id, "bob")


async def test_when_the_claimer_goes_away_the_claim_stands(engine: Engine) -> None:
    sent = await send(engine, count=3)
    gone = asyncio.ensure_future(engine.claims.claim(sent.packet_id, "bob"))
    await asyncio.sleep(0)  # it is queued
    gone.cancel()

    async def has_a_share() -> bool:
        return await engine.redis.hexists(keys.claims(sent.packet_id), "bob")

    await wait_until(has_a_share, what="the claim")
    assert (await engine.claims.claim(sent.packet_id, "bob")).outcome is Outcome.ALREADY
