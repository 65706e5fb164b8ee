"""Freezes: over HTTP, in the ledger, and in every lane of Redis, whatever happens to it."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from engine.engine import Engine
from engine.errors import FrozenError, LimitReachedError, UnavailableError
from engine.ids import lane_of
from engine.lanes import keys
from engine.lanes.clients import command
from engine.packets.terms import terms_from
from engine.records import FreezeScope, Outcome, SplitKind
from engine.risk import freezes
from engine.risk.freezes import Freezes, freeze_in, lift_run_out
from engine.settings import Settings
from tests.recovery.test_recovery import epochs_known
from tests.support.front import Client, Json, new_key, open_front, serving
from tests.support.lost_lanes import amounts_in_ledger, assert_in_order, lose_lane, mended
from tests.support.restartable_redis import redis_of_its_own
from tests.support.scenes import caught_up, changed, fund, persisting, send, sweeping, waits_for_a_lock
from tests.support.waiting import wait_until


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with open_front(settings) as client:
        yield client


async def freeze(client: Client, user: str, reason: str = "looks odd", **more: str) -> Json:
    headers = client.as_user("root", "admin")
    answer = await client.http.put(f"/v1/accounts/{user}/freeze", json={"reason": reason, **more}, headers=headers)
    assert answer.status_code == 200, answer.text
    answered: Json = answer.json()
    return answered


async def lift(client: Client, user: str, reason: str = "all is well", **more: str) -> Json:
    headers, query = client.as_user("root", "admin"), {"reason": reason, **more}
    answer = await client.http.delete(f"/v1/accounts/{user}/freeze", params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    answered: Json = answer.json()
    return answered


async def account(client: Client, user: str) -> Json:
    answer = await client.http.get(f"/v1/accounts/{user}", headers=client.as_user("root", "admin"))
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def test_a_frozen_account_neither_sends_nor_claims_and_keeps_its_money(client: Client) -> None:
    packet_id = await client.send("alice")
    await client.deposit("bob", 500)
    answered = await freeze(client, "bob")
    assert answered == {"user_id": "bob", "frozen": ["account"], "in_force": True}

    bob = client.as_user("bob")
    claim = await client.http.post(f"/v1/packets/{packet_id}/claims", headers=bob)
    body = {"total_fen": 100, "count": 1, "split": "lucky"}
    sending = await client.http.post("/v1/packets", json=body, headers=bob | new_key())
    for refused in (claim, sending):
        assert (refused.status_code, refused.json()["code"]) == (403, "account_frozen"), refused.text
    many = await client.http.post(
        "/v1/claims",
        json={"claims": [{"packet_id": packet_id, "user_id": user} for user in ("bob", "carol")]},
        headers=client.as_backend(),
    )
    assert [result.get("code", result.get("outcome")) for result in many.json()["results"]] == [
        "account_frozen",
        "claimed",
    ]
    wallet = await client.http.get("/v1/wallets/bob", headers=bob)
    assert wallet.json()["balance_fen"] == 500

    assert await lift(client, "bob") == {"user_id": "bob", "frozen": [], "in_force": True}
    assert (await client.claim(packet_id, "bob"))["outcome"] == "claimed"
    sending = await client.http.post("/v1/packets", json=body, headers=bob | new_key())
    assert sending.status_code == 201, sending.text


async def test_a_frozen_account_neither_transfers_nor_takes_transfers(client: Client, settings: Settings) -> None:
    await client.claim(await client.send("alice", count=1), "bob")

    async def has_it() -> bool:
        wallet = await client.http.get("/v1/wallets/bob", headers=client.as_user("bob"))
        return bool(wallet.json()["balance_fen"] == 1_000)

    async with persisting(settings):  # then they are no strangers
        await wait_until(has_it, what="the claim's reaching the ledger")
    await client.deposit("alice", 1_000)

    async def transfer(user: str, to: str) -> tuple[int, Json]:
        body, headers = {"to": to, "amount_fen": 10, "confirm_within_s": 120}, client.as_user(user) | new_key()
        answer = await client.http.post("/v1/transfers", json=body, headers=headers)
        return answer.status_code, answer.json()

    waiting = (await transfer("alice", "bob"))[1]["transfer_id"]
    await freeze(client, "bob")
    status, told = await transfer("bob", "alice")
    assert (status, told["code"]) == (403, "account_frozen")
    path = f"/v1/transfers/{waiting}/confirmation"
    refused = await client.http.post(path, headers=client.as_user("bob"))
    assert (refused.status_code, refused.json()["code"]) == (403, "account_frozen")
    await freeze(client, "alice")
    refused = await client.http.post(f"/v1/transfers/{waiting}/cancellation", headers=client.as_user("alice"))
    assert (refused.status_code, refused.json()["code"]) == (403, "account_frozen")
    await lift(client, "bob")
    assert (await client.http.post(path, headers=client.as_user("bob"))).status_code == 200


async def test_who_froze_it_when_and_why_is_told(client: Client) -> None:
    await freeze(client, "bob", "first")
    await freeze(client, "bob", "second")
    await freeze(client, "bob", "second")  # a repeat
    found = await account(client, "bob")
    assert found["frozen"] == ["account"]
    assert [(row["reason"], row["frozen_by"], row["lifted_by"]) for row in found["freezes"]] == [
        ("second", "root", None),
        ("first", "root", None),
    ]
    await lift(client, "bob", "a mistake")
    found = await account(client, "bob")
    assert found["frozen"] == []
    for row in found["freezes"]:
        assert (row["lifted_by"], row["lifted_reason"]) == ("root", "a mistake")
        assert row["frozen_at_ms"] <= row["lifted_at_ms"]
    assert (found["profile"]["kind"], found["debts"]) == ("person", [])


async def test_each_scope_is_lifted_by_itself(client: Client) -> None:
    packet_id = await client.send("alice")
    await freeze(client, "bob", scope="sending")
    assert (await client.claim(packet_id, "bob"))["outcome"] == "claimed"
    assert (await freeze(client, "carol", scope="receiving"))["frozen"] == ["receiving"]
    await client.deposit("carol", 100)
    body = {"total_fen": 100, "count": 1, "split": "lucky"}
    sent = await client.http.post("/v1/packets", json=body, headers=client.as_user("carol") | new_key())
    assert sent.status_code == 201, sent.text
    claim = await client.http.post(f"/v1/packets/{packet_id}/claims", headers=client.as_user("carol"))
    assert claim.json()["code"] == "account_frozen"
    await freeze(client, "carol")
    assert (await lift(client, "carol"))["frozen"] == ["receiving"]
    assert (await lift(client, "carol", scope="receiving"))["frozen"] == []
    assert (await client.claim(packet_id, "carol"))["outcome"] == "claimed"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "reason"),
        ({"reason": ""}, "reason"),
        ({"reason": "a" * 201}, "reason"),
        ({"reason": "a\nb"}, "reason"),
        ({"reason": "a", "scope": "all"}, "scope"),
    ],
)
async def test_a_freeze_without_a_proper_reason_is_refused(client: Client, body: Json, field: str) -> None:
    headers = client.as_user("root", "admin")
    put = await client.http.put("/v1/accounts/bob/freeze", json=body, headers=headers)
    delete = await client.http.delete("/v1/accounts/bob/freeze", params=body, headers=headers)
    for answer in (put, delete):
        assert answer.status_code == 422, answer.text
        assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert (await account(client, "bob"))["freezes"] == []


async def test_a_freeze_reaches_another_process_before_it_is_answered(settings: Settings) -> None:
    async with serving(settings) as (other, _), open_front(settings) as client:
        packet_id = await client.send("alice", count=100, total_fen=10_000)
        await other.claim(packet_id, "warm")
        for number in range(20):
            user = f"user{number}"
            assert (await freeze(client, user))["in_force"] is True
            refused = await other.http.post(f"/v1/packets/{packet_id}/claims", headers=other.as_user(user))
            assert refused.json()["code"] == "account_frozen", refused.text
            await lift(client, user)
            assert (await other.claim(packet_id, user))["outcome"] == "claimed"


async def test_a_sending_that_waits_for_the_wallet_is_refused_once_it_is_frozen(engine: Engine) -> None:
    await fund(engine, "alice", 1_000)
    terms = terms_from(settings=engine.settings, total_fen=100, count=1, split=SplitKind.LUCKY)
    async with engine.pool.acquire() as connection, connection.transaction():
        await freezes.freeze_in(connection, "alice", reason="odd", frozen_by="root")
        sending = asyncio.create_task(engine.packets.send("alice", terms, idempotency_key="once", request_hash=b"send"))
        await wait_until(lambda: waits_for_a_lock(engine), what="the sending's waiting for the wallet")
    with pytest.raises(FrozenError):
        await sending
    assert (await engine.wallets.get("alice")).balance_fen == 1_000


async def test_a_lane_that_does_not_answer_keeps_no_other_from_being_told(engine: Engine) -> None:
    assert engine.lanes == (0, 1)
    await engine.redis.hset(keys.lane(0), "epoch", "another's")
    assert await engine.freezes.freeze("bob", reason="odd", frozen_by="root") is False
    assert await engine.redis.sismember(keys.frozen(1), "bob")
    assert not await engine.redis.exists(keys.frozen(0))


async def test_a_lane_that_was_emptied_or_rebuilt_knows_at_once(engine: Engine, settings: Settings) -> None:
    sent = await send(engine, count=20)
    lane = lane_of(sent.packet_id)
    await engine.freezes.freeze("bob", reason="odd", frozen_by="root")
    await engine.freezes.freeze("carol", reason="odd", frozen_by="root")
    await engine.freezes.lift("carol", reason="well", lifted_by="root")
    async with persisting(settings):
        await caught_up(engine)
    await lose_lane(engine, lane)
    await mended(engine, lane)
    await wait_until(lambda: epochs_known(engine), what="learning the new epoch")
    with pytest.raises(FrozenError):
        await engine.claims.claim(sent.packet_id, "bob")
    assert (await engine.claims.claim(sent.packet_id, "carol")).outcome is Outcome.CLAIMED


async def test_a_redis_that_was_set_back_knows_before_it_serves_again(settings: Settings, tmp_path: Path) -> None:
    async with redis_of_its_own(tmp_path / "own", has_log=False) as server:
        settings = changed(settings, redis_url=server.url, lanes=1, redis_timeout_s=2.0)
        async with Engine.open(settings) as engine:
            sent = await send(engine, count=20)
            await engine.freezes.freeze("carol", reason="odd", frozen_by="root")
            async with persisting(settings):
                await caught_up(engine)
                await server.put_snapshot_aside()
                assert await engine.freezes.freeze("bob", reason="odd", frozen_by="root")
                await engine.freezes.lift("carol", reason="well", lifted_by="root")
                server.restart_set_back()
                assert not await engine.redis.sismember(keys.frozen(0), "bob")

                async def claims() -> str | None:
                    try:
                        return (await engine.claims.claim(sent.packet_id, "bob")).outcome
                    except FrozenError:
                        return "frozen"
                    except UnavailableError:
                        return None

                # Nobody follows the freezes here: it is the lane's being compared that tells it.
                assert await wait_until(claims, timeout_s=20, what="the lane's serving again") == "frozen"
                assert (await engine.claims.claim(sent.packet_id, "carol")).outcome is Outcome.CLAIMED


async def test_what_a_lane_has_missed_it_is_told_within_a_second(engine: Engine, settings: Settings) -> None:
    sent = await send(engine, count=20)
    await engine.freezes.freeze("bob", reason="odd", frozen_by="root")
    for lane in engine.lanes:  # as if the process had died between the commit and the telling
        await command(engine.redis, "DEL", keys.frozen(lane))
        await command(engine.redis, "HDEL", keys.lane(lane), "frozen", "frozen_version")

    async def are_told() -> bool:
        return all([await engine.redis.sismember(keys.frozen(lane), "bob") for lane in engine.lanes])

    assert freezes._FOLLOW_S <= 0.5  # so often it looks; how long a look takes is the machine's
    async with sweeping(settings):
        await wait_until(are_told, timeout_s=10, what="the lanes' being told")
    with pytest.raises(FrozenError):
        await engine.claims.claim(sent.packet_id, "bob")


async def test_a_lane_that_begins_later_knows_before_anybody_uses_it(engine: Engine, settings: Settings) -> None:
    await engine.freezes.freeze("bob", reason="odd", frozen_by="root")
    async with Engine.open(changed(settings, lanes=4)) as larger:
        assert larger.lanes == (0, 1, 2, 3)
        for lane in larger.lanes:
            assert await larger.redis.sismember(keys.frozen(lane), "bob")


async def test_what_has_an_end_ends_by_itself_and_is_noted_as_lifted(engine: Engine) -> None:
    for user, until_ms in (("bob", 1), ("carol", 2**50)):
        await fund(engine, user, 100)
        async with engine.pool.acquire() as connection, connection.transaction():
            scope = FreezeScope.SENDING
            await freeze_in(connection, user, reason="odd", frozen_by="rule", scope=scope, until_ms=until_ms)
    await send(engine, "bob", total_fen=10, count=1)  # its time is over: nobody has to lift it
    with pytest.raises(LimitReachedError):
        await send(engine, "carol", total_fen=10, count=1)
    await engine.freezes.freeze("carol", reason="odd", frozen_by="root", scope=FreezeScope.SENDING)
    with pytest.raises(FrozenError):  # which goes before the other
        await send(engine, "carol", total_fen=10, count=1)
    await engine.freezes.lift("carol", reason="fine", lifted_by="root", scope=FreezeScope.SENDING, frozen_by="root")
    assert await lift_run_out(engine.pool) == 1
    (freeze,) = await engine.freezes.of("bob")
    assert (freeze.lifted_by, freeze.until_ms) == ("time", 1)
    assert await engine.freezes.in_force("carol") == [FreezeScope.SENDING]


async def test_no_freeze_ends_at_a_time_that_its_script_does_not_know(engine: Engine) -> None:
    for scope in (FreezeScope.ACCOUNT, FreezeScope.RECEIVING):
        with pytest.raises(asyncpg.CheckViolationError):
            async with engine.pool.acquire() as connection, connection.transaction():
                await freeze_in(connection, "bob", reason="odd", frozen_by="rule", scope=scope, until_ms=2**50)


@dataclass
class Seen:
    """When, by one clock of counting, what was asked and answered."""

    clock: "count[int]" = field(default_factory=count)
    frozen: dict[str, list[tuple[int, int]]] = field(default_factory=dict)  # user -> from answered to the lift's asking
    won: list[tuple[str, int]] = field(default_factory=list)  # user, when it was asked
    outcomes: Counter[str] = field(default_factory=Counter)


async def operate(engines: list[Engine], packets: list[str], user: str, chance: random.Random, seen: Seen) -> None:
    """Freeze and lift one user again and again, through any process; they claim while frozen, and when both race."""
    async with asyncio.TaskGroup() as racing:
        for packet_id in packets:
            assert await chance.choice(engines).freezes.freeze(user, reason="race", frozen_by="root")
            answered = next(seen.clock)
            await hands(engines, [packet_id], user, chance, seen)
            seen.frozen.setdefault(user, []).append((answered, next(seen.clock)))
            lifting = racing.create_task(chance.choice(engines).freezes.lift(user, reason="race", lifted_by="root"))
            if chance.random() < 0.5:
                await lifting
            racing.create_task(hands(engines, packets, user, chance, seen))
            assert await lifting


async def hands(engines: list[Engine], packets: list[str], user: str, chance: random.Random, seen: Seen) -> None:
    """Claim as one user, one packet after the other."""
    for packet_id in chance.sample(packets, len(packets)):
        asked = next(seen.clock)
        try:
            outcome = (await chance.choice(engines).claims.claim(packet_id, user)).outcome
        except FrozenError:
            outcome = Outcome.FROZEN
        seen.outcomes[outcome.name] += 1
        if outcome is Outcome.CLAIMED:
            seen.won.append((user, asked))


async def race(engines: list[Engine], seed: int, sizes: tuple[int, int], totals: Counter[str]) -> None:
    """One example: no claim that was asked between a freeze's answer and its lift's asking has won."""
    chance, seen, (users, packets) = random.Random(seed), Seen(), sizes
    names = [f"{seed}-{number}" for number in range(users)]
    sent = [(await send(engines[0], total_fen=users * 10, count=users + 1)).packet_id for _ in range(packets)]
    await asyncio.gather(
        *(operate(engines, sent, user, chance, seen) for user in names[::2]),
        *(hands(engines, sent, user, chance, seen) for user in names[1::2] for _ in range(2)),
    )
    for user, asked in seen.won:
        inside = [span for span in seen.frozen.get(user, []) if span[0] < asked < span[1]]
        assert inside == [], (user, asked)
    totals.update(seen.outcomes)


@pytest.mark.long
def test_a_claim_asked_after_a_freeze_was_answered_never_wins(settings: Settings) -> None:
    settings = changed(settings, database_pool_max=8)
    totals: Counter[str] = Counter()
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        stack = AsyncExitStack()
        engines = [runner.run(stack.enter_async_context(Engine.open(settings))) for _ in range(2)]

        @examples(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
        @given(seed=st.integers(0, 2**32), sizes=st.tuples(st.integers(2, 6), st.integers(2, 6)))
        def check(seed: int, sizes: tuple[int, int]) -> None:
            runner.run(race(engines, seed, sizes, totals))

        async def settle() -> None:
            async with persisting(settings):
                await caught_up(engines[0])
            await assert_in_order(engines[0])
            assert len(await amounts_in_ledger(engines[0])) == totals["CLAIMED"]

        try:
            for _ in range(5):
                check()
                if totals["FROZEN"] > 50 and totals["CLAIMED"] > 100:  # else too little was raced
                    break
            else:
                pytest.fail(f"too little was raced: {totals}")
            runner.run(settle())
        finally:
            runner.run(stack.aclose())


async def test_a_freeze_in_the_same_instant_as_sendings_lets_money_through_or_not_at_all(engine: Engine) -> None:
    await fund(engine, "alice", 10_000)
    terms = terms_from(settings=engine.settings, total_fen=100, count=1, split=SplitKind.LUCKY)

    async def sending(number: int) -> bool:
        try:
            await engine.packets.send("alice", terms, idempotency_key=f"k{number}", request_hash=b"send")
        except FrozenError:
            return False
        return True

    async def freezing() -> None:
        await engine.freezes.freeze("alice", reason="odd", frozen_by="root")

    first = [asyncio.create_task(sending(number)) for number in range(10)]
    await asyncio.gather(freezing(), *first)
    assert [await sending(number) for number in range(10, 15)] == [False] * 5
    went = sum(task.result() for task in first)
    assert (await engine.wallets.get("alice")).balance_fen == 10_000 - 100 * went


async def test_freezes_need_only_the_ledger(engine: Engine) -> None:
    """An engine that knows no lane still writes them down."""
    apart = Freezes(engine.pool, engine.store)
    assert await apart.in_force("bob") == []
    assert await apart.freeze("bob", reason="odd", frozen_by="root", scope=FreezeScope.SENDING) is True
    assert await engine.freezes.in_force("bob") == [FreezeScope.SENDING]
    assert await engine.pool.fetchval("SELECT count(*) FROM freeze_changes") == 0  # claims are not touched by it


async def test_a_lane_that_knows_what_the_ledger_has_lost_is_told_anew(engine: Engine) -> None:
    """As after the ledger was restored from a copy: its changes are counted again from an earlier one."""
    for user in ("ada", "bob"):
        await engine.freezes.freeze(user, reason="a test", frozen_by="root")
    await engine.pool.execute("DELETE FROM freeze_changes; DELETE FROM freezes")
    await engine.pool.execute("ALTER SEQUENCE freeze_changes_change_id_seq RESTART")
    await engine.pool.execute("UPDATE accounts SET frozen = FALSE")
    assert await engine.freezes.freeze("eve", reason="a test", frozen_by="root")
    for lane in engine.lanes:
        assert await engine.store.frozen(lane) == {"eve"}
        assert await engine.store.frozen_version(lane) == 1
    assert await engine.freezes.freeze("zoe", reason="a test", frozen_by="root")
    assert all([await engine.store.frozen(lane) == {"eve", "zoe"} for lane in engine.lanes])
