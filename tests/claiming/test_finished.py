"""A process answers for ended packets as Redis would, without asking it, and only for packets that cannot change."""

import contextlib
from collections import Counter
from dataclasses import replace

import pytest

from engine.claiming.finished import Finished
from engine.engine import Engine
from engine.errors import UnconfirmedError
from engine.ids import lane_of
from engine.lanes import keys
from engine.lanes.clients import command
from engine.lanes.reader import LaneStatus
from engine.lanes.replies import CloseReason
from engine.records import Ack, ClaimResult, ClaimRow, Outcome
from engine.settings import Settings
from tests.support.scenes import caught_up, changed, let_time_run_out, persisting, send
from tests.support.waiting import wait_until


async def learnt(engine: Engine, packet_id: str) -> None:
    """Wait until the engine's process remembers a packet."""

    async def is_known() -> bool:
        return engine.claims.finished.answer(packet_id, "nobody") is not None

    await wait_until(is_known, what=f"remembering {packet_id}")


async def forget_in_redis(engine: Engine, packet_id: str) -> None:
    for name in (keys.packet, keys.claims, keys.shares):
        await command(engine.redis, "DEL", name(packet_id))


async def test_an_exhausted_packet_is_answered_without_redis(engine: Engine) -> None:
    packet_id = (await send(engine, count=2)).packet_id
    first = [await engine.claims.claim(packet_id, user) for user in ("ada", "bob")]
    assert await engine.claims.claim(packet_id, "eve") == ClaimResult(Outcome.EMPTY, 0)
    await learnt(engine, packet_id)
    await forget_in_redis(engine, packet_id)
    again = [await engine.claims.claim(packet_id, user) for user in ("ada", "bob", "eve")]
    assert again == [
        *(ClaimResult(Outcome.ALREADY, result.amount_fen) for result in first),
        ClaimResult(Outcome.EMPTY, 0),
    ]


async def test_a_closed_packet_says_how_it_ended(engine: Engine) -> None:
    packet_id = (await send(engine, count=2)).packet_id
    won = await engine.claims.claim(packet_id, "ada")
    await let_time_run_out(engine, packet_id)
    await engine.store.close(packet_id, CloseReason.EXPIRED)
    assert await engine.claims.claim(packet_id, "bob") == ClaimResult(Outcome.EXPIRED, 0)
    await learnt(engine, packet_id)
    await forget_in_redis(engine, packet_id)
    assert await engine.claims.claim(packet_id, "ada") == ClaimResult(Outcome.ALREADY, won.amount_fen)
    assert await engine.claims.claim(packet_id, "bob") == ClaimResult(Outcome.EXPIRED, 0)


async def test_what_may_still_change_or_is_not_for_all_is_not_remembered(engine: Engine) -> None:
    over = (await send(engine, count=2)).packet_id
    await let_time_run_out(engine, over)
    invited = (await send(engine, count=1, recipients=["ada"])).packet_id
    await engine.claims.claim(invited, "ada")
    running = (await send(engine, count=2)).packet_id
    finished = Finished(engine.store, engine.acks)
    for packet_id in (over, invited, running, "1000000000000000000"):
        finished.learn(packet_id)
    await wait_until_idle(finished)
    assert [finished.answer(packet_id, "ada") for packet_id in (over, invited, running)] == [None, None, None]


async def test_a_packet_whose_claims_are_not_all_there_any_more_is_not_remembered(engine: Engine) -> None:
    packet_id = (await send(engine, count=2)).packet_id
    for user in ("ada", "bob"):
        await engine.claims.claim(packet_id, user)
    await command(engine.redis, "HDEL", keys.claims(packet_id), "ada")
    finished = Finished(engine.store, engine.acks)
    finished.learn(packet_id)
    await wait_until_idle(finished)
    assert finished.answer(packet_id, "ada") is None


@pytest.mark.parametrize("changes_lost", [0, 1])
async def test_claims_that_a_replica_may_not_have_are_not_remembered(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, changes_lost: int
) -> None:
    """They are read on a master, and then a replica takes over that has emitted fewer changes."""
    in_ledger = changed(settings, ack=Ack.LEDGER, ack_timeout_s=0.2 if changes_lost else 20.0)
    async with Engine.open(in_ledger) as engine, persisting(settings):
        packet_id = (await send(engine, count=1)).packet_id
        with contextlib.suppress(UnconfirmedError):  # it stands: the ledger needs longer on a busy machine
            await engine.claims.claim(packet_id, "ada")
        await caught_up(engine)
        replicas = await engine.store.lane_status(lane_of(packet_id))
        assert replicas is not None
        has_taken_over, read = False, engine.store.claims

        async def status(_lane: int) -> LaneStatus:
            return replicas if has_taken_over else replace(replicas, position=replicas.position + changes_lost)

        async def claims(number: str) -> list[ClaimRow]:
            nonlocal has_taken_over
            rows, has_taken_over = await read(number), True
            return rows

        monkeypatch.setattr(engine.store, "lane_status", status)
        monkeypatch.setattr(engine.store, "claims", claims)
        finished = Finished(engine.store, engine.acks)
        finished.learn(packet_id)
        await wait_until_idle(finished)
        assert has_taken_over
        assert (finished.answer(packet_id, "ada") is None) == bool(changes_lost)


async def wait_until_idle(finished: Finished) -> None:
    async def is_idle() -> bool:
        return not finished.loading

    await wait_until(is_idle, what="reading what was asked for")


async def test_the_oldest_is_forgotten_first_and_never_more_is_kept_than_allowed(engine: Engine) -> None:
    finished = Finished(engine.store, engine.acks, claims_max=6)
    packets = [(await send(engine, count=1)).packet_id for _ in range(5)]
    for packet_id in packets:
        await engine.claims.claim(packet_id, "ada")
        finished.learn(packet_id)
        await wait_until_idle(finished)
    known = [finished.answer(packet_id, "ada") is not None for packet_id in packets]
    assert known == [False, False, True, True, True]


async def test_answers_are_counted_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: Counter[str] = Counter()

    class Claims:
        def labels(self, outcome: str) -> "Claims":
            self.outcome = outcome
            return self

        def inc(self, count: int) -> None:
            counted[self.outcome] += count

    packet_id = (await send(engine, count=1)).packet_id
    await engine.claims.claim(packet_id, "ada")
    await engine.claims.claim(packet_id, "bob")
    await learnt(engine, packet_id)
    engine.claims.finished.flush()
    monkeypatch.setattr("engine.claiming.finished.metrics.CLAIMS", Claims())
    for user in ("ada", "bob", "bob"):
        await engine.claims.claim(packet_id, user)
    engine.claims.finished.flush()
    engine.claims.finished.flush()
    assert counted == {"already": 1, "empty": 2}
