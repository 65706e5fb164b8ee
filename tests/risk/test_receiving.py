"""What a person may receive in a day: the ledger is followed, and a user who has as much claims no more that day."""

import asyncio
from uuid import uuid4

import asyncpg
import pytest

from engine.engine import Engine
from engine.errors import FrozenError, LimitReachedError
from engine.lanes import keys
from engine.packets.terms import terms_from
from engine.records import ClaimResult, FreezeScope, Outcome, SplitKind
from engine.risk import receiving
from engine.risk.limits import AccountKind, day_ms
from engine.risk.limits_reached import LimitReached
from engine.risk.receiving import Receiving
from engine.settings import Settings
from tests.support.days import whole_day
from tests.support.front import open_front
from tests.support.scenes import caught_up, changed, fund, persisting, send, sweeping
from tests.support.waiting import wait_until

HOUR_MS, DAY_MS = 3_600_000, 86_400_000


@pytest.fixture(autouse=True)
async def _day() -> None:
    """What is received is counted by the day: each test has one to itself."""
    await whole_day()


async def receive(engine: Engine, user: str, amount_fen: int) -> Outcome | None:
    """Claim a packet of one share; None when the account may not."""
    sent = await send(engine, total_fen=amount_fen, count=1, split=SplitKind.EQUAL)
    try:
        return (await engine.claims.claim(sent.packet_id, user)).outcome
    except LimitReachedError:
        return None


def follower(engine: Engine) -> Receiving:
    return Receiving(engine.pool, engine.limits_reached, engine.settings)


async def reached(engine: Engine, user: str) -> LimitReached | None:
    return (await engine.profiles.account(user)).limit_reached


async def limit(engine: Engine, user: str, day_received_fen_max: int | None, kind: str = "person") -> None:
    own = {"day_received_fen_max": day_received_fen_max}
    await engine.profiles.put(user, AccountKind(kind), [], own, changed_by="root")


async def test_who_has_received_as_much_as_they_may_claims_nothing_more_today(settings: Settings) -> None:
    settings = changed(settings, person_day_received_fen_max=1_000)
    async with Engine.open(settings) as engine, persisting(settings), sweeping(settings):
        assert await receive(engine, "bob", 600) is Outcome.CLAIMED
        assert await receive(engine, "carol", 900) is Outcome.CLAIMED
        assert await receive(engine, "bob", 700) is Outcome.CLAIMED  # which passes it, and stands
        await caught_up(engine)

        async def is_limited() -> bool:
            """The ledger has it first, then one lane after the other."""
            lanes = [await engine.redis.hexists(keys.limited(lane), "bob") for lane in engine.lanes]
            return all(lanes) and await reached(engine, "bob") is not None

        assert receiving._LOOK_S <= 0.25  # so often it looks; how long a look takes is the machine's
        await wait_until(is_limited, timeout_s=10, what="the limit in every lane, soon after the ledger")
        assert await receive(engine, "bob", 1) is None
        assert await receive(engine, "carol", 99) is Outcome.CLAIMED
        found = await reached(engine, "bob")
        assert found is not None
        assert (found.limit_fen, found.received_fen) == (1_000, 1_300)
        assert found.until_ms == day_ms(found.reached_at_ms)[1]
        assert await engine.freezes.of("bob") == []  # nobody froze anything
        assert (await engine.wallets.get("bob")).balance_fen == 1_300
        await send(engine, "bob", total_fen=100, count=1)  # sending is another thing


async def test_limits_of_ones_own_go_before_the_settings(settings: Settings) -> None:
    settings = changed(settings, person_day_received_fen_max=1_000)
    async with Engine.open(settings) as engine, persisting(settings):
        await limit(engine, "rich", 0)
        await limit(engine, "poor", 10)
        await limit(engine, "shop", None, kind="merchant")
        for user in ("rich", "poor", "shop", "bob"):
            assert await receive(engine, user, 999) is Outcome.CLAIMED
        await caught_up(engine)
        await follower(engine).look()
        assert [user for user in ("rich", "poor", "shop", "bob") if await reached(engine, user)] == ["poor"]


async def test_a_limit_that_is_changed_is_looked_at_at_once(engine: Engine, settings: Settings) -> None:
    async with persisting(settings), open_front(settings) as client:
        assert await receive(engine, "bob", 500) is Outcome.CLAIMED
        await caught_up(engine)
        root = client.as_user("root", "admin")
        for most, is_limited in ((500, True), (501, False), (100, True), (0, False), (None, False)):
            body = {"kind": "person", "day_received_fen_max": most}
            await client.http.put("/v1/accounts/bob/profile", json=body, headers=root)
            found = (await client.http.get("/v1/accounts/bob", headers=root)).json()
            assert (found["limit_reached"] is not None) is is_limited, most
            assert found["frozen"] == []
            assert (await receive(engine, "bob", 1) is None) is is_limited, most
            await caught_up(engine)


async def test_changing_a_limit_lifts_no_other_freeze(engine: Engine) -> None:
    await engine.freezes.freeze("bob", reason="odd", frozen_by="root", scope=FreezeScope.RECEIVING)
    await limit(engine, "bob", 0)
    assert await engine.freezes.in_force("bob") == [FreezeScope.RECEIVING]


async def test_yesterdays_claims_do_not_count(engine: Engine, settings: Settings) -> None:
    async with persisting(settings):
        assert await receive(engine, "bob", 500) is Outcome.CLAIMED
        await caught_up(engine)
    await engine.pool.execute("ALTER TABLE transfers DISABLE TRIGGER transfers_are_immutable")
    await engine.pool.execute("UPDATE transfers SET at_ms = at_ms - $1", DAY_MS)
    await limit(engine, "bob", 500)
    await follower(engine).look()
    assert await reached(engine, "bob") is None


async def test_a_limit_ends_with_its_day_though_nobody_lifts_it(engine: Engine) -> None:
    """At midnight thousands claim at once: no job may stand between them and their first packet of the day."""
    ends_ms = await engine.store.now_ms(0) + 300
    await note(engine, {f"user{number}": ends_ms for number in range(2_500)})
    sent = await send(engine, total_fen=2_500, count=2_500, split=SplitKind.EQUAL)
    asked = [(sent.packet_id, f"user{number}") for number in range(500)]
    while (now_ms := await engine.store.now_ms(0)) < ends_ms:
        answers = await engine.claims.claim_many(asked)
        outcomes = {type(answer) for answer in answers}
        assert outcomes == {LimitReachedError} or await engine.store.now_ms(0) >= ends_ms, (outcomes, ends_ms - now_ms)
    users = [f"user{number}" for number in range(2_500)]
    for first in range(0, len(users), 500):
        answers = await engine.claims.claim_many([(sent.packet_id, user) for user in users[first : first + 500]])
        assert all(isinstance(answer, ClaimResult) for answer in answers)


async def note(engine: Engine, untils_ms: dict[str, int]) -> None:
    """Write to the ledger that some have reached a limit, and have the lanes know."""
    await engine.pool.executemany(
        "INSERT INTO limits_reached (user_id, is_reached, limit_fen, received_fen, at_ms, until_ms) "
        "VALUES ($1, TRUE, 1, 1, 1, $2)",
        list(untils_ms.items()),
    )
    assert await engine.limits_reached.spread()


async def test_whoever_reached_a_limit_is_told_so_and_until_when(engine: Engine, settings: Settings) -> None:
    ends_ms = day_ms(await engine.store.now_ms(0))[1]
    await note(engine, {"bob": ends_ms})
    sent = await send(engine, total_fen=10, count=5)
    async with open_front(settings) as client:
        answer = await client.http.post(f"/v1/packets/{sent.packet_id}/claims", headers=client.as_user("bob", "claim"))
        body = {"claims": [{"packet_id": sent.packet_id, "user_id": user} for user in ("bob", "carol")]}
        many = await client.http.post("/v1/claims", json=body, headers=client.as_user("backend", "act"))
    problem, (refused, won) = answer.json(), many.json()["results"]
    assert (answer.status_code, problem["code"], problem["limit"]) == (409, "limit_reached", "day_received_fen_max")
    assert "received as much as it may" in problem["detail"]
    assert problem["until_ms"] == refused["until_ms"] == ends_ms
    assert refused["code"] == "limit_reached"
    assert "frozen" not in answer.text + many.text
    assert won["outcome"] == "claimed"


async def test_a_frozen_user_is_told_of_the_freeze_first(engine: Engine) -> None:
    await note(engine, {"bob": await engine.store.now_ms(0) + DAY_MS})
    await engine.freezes.freeze("bob", reason="odd", frozen_by="root")
    sent = await send(engine, count=2)
    with pytest.raises(FrozenError):
        await engine.claims.claim(sent.packet_id, "bob")
    await engine.freezes.lift("bob", reason="fine", lifted_by="root")
    with pytest.raises(LimitReachedError):
        await engine.claims.claim(sent.packet_id, "bob")


async def test_what_is_over_is_forgotten_by_the_lane(engine: Engine) -> None:
    """Else the lane would grow by all users of every day."""
    await note(engine, {"yesterday": 1_000, "alice": await engine.store.now_ms(0) - 1})
    await note(engine, {"bob": await engine.store.now_ms(0) + DAY_MS})
    assert await engine.redis.hkeys(keys.limited(0)) == [b"bob"]


async def test_a_lane_that_begins_later_or_lost_it_is_told(engine: Engine, settings: Settings) -> None:
    await note(engine, {"bob": await engine.store.now_ms(0) + DAY_MS})
    async with Engine.open(changed(settings, lanes=3)) as larger:
        assert [await larger.redis.hexists(keys.limited(lane), "bob") for lane in larger.lanes] == [True] * 3
    for lane in engine.lanes:
        await engine.redis.delete(keys.limited(lane))
        await engine.redis.hdel(keys.lane(lane), "limited_version", "limited_until_ms")
    assert await receive(engine, "bob", 1) is Outcome.CLAIMED
    assert await engine.limits_reached.spread()
    assert await receive(engine, "bob", 1) is None


async def test_a_lane_forgets_what_a_restored_ledger_does_not_have(engine: Engine) -> None:
    ends_ms = await engine.store.now_ms(0) + DAY_MS
    await note(engine, {"bob": ends_ms})
    await note(engine, {"carol": ends_ms})
    await engine.pool.execute("DELETE FROM limits_reached WHERE user_id = 'carol'")
    assert await engine.limits_reached.spread()
    assert await receive(engine, "carol", 1) is Outcome.CLAIMED
    assert await receive(engine, "bob", 1) is None


async def test_thousands_who_reach_a_limit_together_are_stopped_together(settings: Settings) -> None:
    settings = changed(settings, person_day_received_fen_max=1)
    async with Engine.open(settings) as engine, persisting(settings):
        users = [f"user{number}" for number in range(2_000)]
        sent = await send(engine, total_fen=2_000, count=2_000, split=SplitKind.EQUAL)
        for first in range(0, len(users), 500):
            await engine.claims.claim_many([(sent.packet_id, user) for user in users[first : first + 500]])
        await caught_up(engine)
        await follower(engine).look()  # one look, and every one of them is known
        again = await send(engine, total_fen=2_000, count=2_000, split=SplitKind.EQUAL)
        for first in range(0, len(users), 500):
            answers = await engine.claims.claim_many([(again.packet_id, user) for user in users[first : first + 500]])
            assert {type(answer) for answer in answers} == {LimitReachedError}


async def test_a_setting_that_is_gone_at_the_next_start_stops_nobody(settings: Settings) -> None:
    limited = changed(settings, person_day_received_fen_max=5)
    async with Engine.open(limited) as engine, persisting(limited):
        assert await receive(engine, "bob", 5) is Outcome.CLAIMED
        await caught_up(engine)
        await follower(engine).look()
        assert await receive(engine, "bob", 1) is None
    async with Engine.open(settings) as engine:
        await follower(engine).look()
        assert await receive(engine, "bob", 1) is Outcome.CLAIMED
        assert await reached(engine, "bob") is None


async def test_what_is_noted_after_the_day_is_for_that_day(settings: Settings) -> None:
    connection = await asyncpg.connect(settings.database_url)
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"""
        CREATE SCHEMA clock;
        CREATE TABLE clock.ahead AS SELECT 0 AS days;
        CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
            'SELECT pg_catalog.clock_timestamp() + interval ''1 day'' * (SELECT days FROM clock.ahead)';
        ALTER DATABASE {name} SET search_path = clock, pg_catalog, public;
    """)
    await connection.close()
    async with Engine.open(settings) as engine, persisting(settings):
        for user in ("alice", "bob"):
            await limit(engine, user, 100)
            assert await receive(engine, user, 100) is Outcome.CLAIMED
        await caught_up(engine)
        watching = ReceivingAtMidnight(engine.pool, engine.limits_reached, settings)
        await watching.look()
        rows = await engine.pool.fetch("SELECT until_ms, at_ms FROM limits_reached ORDER BY change_id")
        assert len(rows) == 2
        # Both were noted after the day that they are for.
        assert {row["until_ms"] for row in rows} == {day_ms(rows[0]["at_ms"])[0]}


class ReceivingAtMidnight(Receiving):
    """Before the wallets are judged the next day begins, and somebody else's limit is looked at."""

    async def _judge(self, wallets: list[int]) -> int:
        await self._pool.execute("UPDATE clock.ahead SET days = 1")
        return await super()._judge(wallets)


@pytest.mark.parametrize("held", [0, 1])
async def test_a_claim_that_is_booked_late_under_a_smaller_number_is_seen(engine: Engine, held: int) -> None:
    """Two transactions take numbers in one order and end in the other; what ended first must not hide the other."""
    await limit(engine, "bob", 100)
    await limit(engine, "carol", 100)
    watching = follower(engine)
    await watching.look()
    first, second = await claim_by_hand(engine, "bob"), await claim_by_hand(engine, "carol")
    await second.commit()
    for _ in range(3):
        await watching.look()
    assert await reached(engine, "carol") is not None
    assert await reached(engine, "bob") is None
    await first.commit()
    for _ in range(1 + held):
        await watching.look()
    assert await reached(engine, "bob") is not None


_TIMES_MAX = 8


class ReceivingUnderLoad(Receiving):
    """Whenever it has judged some users, more claims have been booked. After many times, nobody claims any more."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.pool, engine.limits_reached, engine.settings)
        self.engine, self.times = engine, 0
        self.late: ByHand | None = None

    async def _judge(self, wallets: list[int]) -> int:
        changed = await super()._judge(wallets)
        self.times += 1
        if self.late is not None:
            await self.late.commit()
            self.late = None
        if self.times < _TIMES_MAX:
            await (await claim_by_hand(self.engine, f"user{self.times}")).commit()
        return changed


async def test_a_look_ends_though_claims_are_booked_all_the_time(engine: Engine) -> None:
    """Else, in a rush, nobody looks again at numbers that were left out, at the clock, or at a stop."""
    await limit(engine, "bob", 100)
    for number in range(_TIMES_MAX):
        await limit(engine, f"user{number}", 10**6)
    watching = ReceivingUnderLoad(engine)
    watching.late = await claim_by_hand(engine, "bob")  # with a smaller number than the next
    await (await claim_by_hand(engine, "user0")).commit()
    await watching.look()
    assert watching.times < _TIMES_MAX
    assert await reached(engine, "bob") is None
    await watching.look()
    assert watching.times < _TIMES_MAX
    assert await reached(engine, "bob") is not None


class ByHand:
    """A claim of 100 fen, written in a transaction that is still open."""

    def __init__(self, connection: asyncpg.Connection, transaction: asyncpg.transaction.Transaction) -> None:
        self._connection, self._transaction = connection, transaction

    async def commit(self) -> None:
        await self._transaction.commit()
        await self._connection.close()


async def claim_by_hand(engine: Engine, user: str) -> ByHand:
    connection = await asyncpg.connect(engine.settings.database_url)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(
        "INSERT INTO transfers (kind, from_account, to_account, amount_fen, at_ms, slot) "
        "SELECT 'claim', 3, account_id, 100, floor(extract(epoch FROM clock_timestamp()) * 1000), account_id "
        "FROM accounts WHERE owner = $1",
        user,
    )
    return ByHand(connection, transaction)


async def test_what_is_booked_by_the_last_transaction_that_began_is_seen(engine: Engine) -> None:
    """The other began before it, took a later number and ended: no snapshot shows that the last one is open."""
    await limit(engine, "bob", 100)
    await fund(engine, "alice", 1)
    watching = follower(engine)
    await watching.look()
    async with engine.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_current_xact_id()")
        last = await claim_by_hand(engine, "bob")
        await connection.execute(
            "SELECT move_money('correction', account_id, 4, 1, 1) FROM accounts WHERE owner = 'alice'"
        )
    for _ in range(3):
        await watching.look()
    await last.commit()
    await watching.look()
    assert await reached(engine, "bob") is not None


async def test_what_was_looked_at_is_left_behind(engine: Engine, settings: Settings) -> None:
    """Else every look would go through the whole day again."""
    await limit(engine, "bob", 10**6)
    watching = follower(engine)
    async with persisting(settings):
        for _ in range(3):
            assert await receive(engine, "bob", 10) is Outcome.CLAIMED
        await caught_up(engine)
    last = await engine.pool.fetchval("SELECT max(transfer_id) FROM transfers")

    async def has_moved_on() -> bool:
        await watching.look()
        return watching._after == int(last)

    await wait_until(has_moved_on, what="leaving behind what was looked at")


@pytest.mark.parametrize("days", [0, 1, 3, 40])
async def test_the_days_first_transfer_is_found_by_halving(engine: Engine, days: int) -> None:
    (row,) = await engine.pool.fetch("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms")
    begins_ms, _ = day_ms(row["now_ms"])
    times = [begins_ms - days * DAY_MS + number * DAY_MS // 10 for number in range(days * 10 + 5)]
    await engine.pool.execute(
        "INSERT INTO transfers (transfer_id, kind, from_account, to_account, amount_fen, at_ms) "
        "OVERRIDING SYSTEM VALUE SELECT 7 + 3 * place, 'refund', 10 + place, 1, 1, at_ms "
        "FROM unnest($1::bigint[]) WITH ORDINALITY AS given (at_ms, place)",
        times,
    )
    await limit(engine, "bob", 1)
    watching = follower(engine)
    await watching.look()
    since = await engine.pool.fetchval("SELECT min(transfer_id) FROM transfers WHERE at_ms >= $1", begins_ms - HOUR_MS)
    assert watching._first <= since
    assert await engine.pool.fetchval("SELECT count(*) FROM transfers WHERE transfer_id < $1", watching._first) == (
        await engine.pool.fetchval("SELECT count(*) FROM transfers WHERE at_ms < $1", begins_ms - HOUR_MS)
    )


async def test_without_a_limit_anywhere_nothing_is_followed(engine: Engine, settings: Settings) -> None:
    async with persisting(settings):
        assert await receive(engine, "bob", 10_000) is Outcome.CLAIMED
        await caught_up(engine)
    watching = follower(engine)
    await watching.look()
    assert watching._after == 0
    await limit(engine, "carol", 5)
    await watching.look()
    assert watching._first == 1


async def test_two_followers_note_it_once(engine: Engine, settings: Settings) -> None:
    await limit(engine, "bob", 5)
    async with persisting(settings):
        assert await receive(engine, "bob", 10) is Outcome.CLAIMED
        await caught_up(engine)
    await asyncio.gather(*(follower(engine).look() for _ in range(4)))
    assert await engine.pool.fetchval("SELECT count(*) FROM limits_reached") == 1


async def test_what_is_not_money_does_not_count_and_hides_nothing(settings: Settings) -> None:
    """Five thousand points are not fifty yuan; nor does a share of few points make room for more money."""
    settings = changed(settings, person_day_received_fen_max=1_000)
    async with Engine.open(settings) as engine, persisting(settings):
        await engine.assets.define("POINTS", scale=0, name="points")
        points = await engine.assets.named("POINTS")
        await engine.assets.issue("shop", 10_000, points, idempotency_key=uuid4().hex, request_hash=b"issue")
        for user, total in (("bob", 5_000), ("carol", 5)):
            terms = terms_from(settings=settings, total_fen=total, count=1, split=SplitKind.LUCKY, asset="POINTS")
            sent = await engine.packets.send("shop", terms, idempotency_key=uuid4().hex, request_hash=b"send")
            assert (await engine.claims.claim(sent.packet_id, user)).outcome is Outcome.CLAIMED
        assert await receive(engine, "carol", 1_500) is Outcome.CLAIMED
        await caught_up(engine)
        watching = follower(engine)
        for _ in range(3):  # the same entries are looked at more than once
            await watching.look()
            assert await reached(engine, "bob") is None
            found = await reached(engine, "carol")
            assert found is not None
            assert found.received_fen == 1_500
        assert await engine.pool.fetchval("SELECT count(*) FROM limits_reached") == 1
