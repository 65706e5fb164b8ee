"""What a person may receive in a day: the ledger is followed, and whoever has as much is frozen until the day ends."""

import asyncio
from typing import Any

import asyncpg
import pytest

from engine.engine import Engine
from engine.errors import FrozenError
from engine.lanes import keys
from engine.records import FreezeScope, Outcome, SplitKind
from engine.risk import receiving
from engine.risk.freezes import Freezes, lift_run_out
from engine.risk.limits import AccountKind, day_ms
from engine.risk.receiving import FROZEN_BY, Receiving
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
    except FrozenError:
        return None


def follower(engine: Engine) -> Receiving:
    return Receiving(engine.pool, engine.freezes, engine.settings)


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

        async def is_frozen() -> bool:
            """The ledger has it first, then one lane after the other."""
            lanes = [await engine.redis.sismember(keys.frozen(lane), "bob") for lane in engine.lanes]
            return all(lanes) and await engine.freezes.in_force("bob") == [FreezeScope.RECEIVING]

        assert receiving._LOOK_S <= 0.25  # so often it looks; how long a look takes is the machine's
        await wait_until(is_frozen, timeout_s=10, what="the freeze, soon after the ledger")
        assert await receive(engine, "bob", 1) is None
        assert await receive(engine, "carol", 99) is Outcome.CLAIMED
        (freeze,) = await engine.freezes.of("bob")
        assert (freeze.frozen_by, freeze.reason) == (FROZEN_BY, "the limit of 1000 fen a day is reached")
        assert freeze.until_ms == day_ms(freeze.frozen_at_ms)[1]
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
        frozen = {user: await engine.freezes.in_force(user) for user in ("rich", "poor", "shop", "bob")}
        assert [user for user, scopes in frozen.items() if scopes] == ["poor"]


async def test_a_limit_that_is_changed_is_looked_at_at_once(engine: Engine, settings: Settings) -> None:
    async with persisting(settings), open_front(settings) as client:
        assert await receive(engine, "bob", 500) is Outcome.CLAIMED
        await caught_up(engine)
        root = client.as_user("root", "admin")
        for most, is_frozen in ((500, True), (501, False), (100, True), (0, False), (None, False)):
            body = {"kind": "person", "day_received_fen_max": most}
            await client.http.put("/v1/accounts/bob/profile", json=body, headers=root)
            found = (await client.http.get("/v1/accounts/bob", headers=root)).json()
            assert found["frozen"] == (["receiving"] if is_frozen else []), most
            assert (await receive(engine, "bob", 1) is None) is is_frozen, most
            await caught_up(engine)


async def test_changing_a_limit_lifts_no_other_freeze(engine: Engine) -> None:
    await engine.freezes.freeze("bob", reason="odd", frozen_by="root", scope=FreezeScope.RECEIVING)
    await limit(engine, "bob", 0)
    assert await engine.freezes.in_force("bob") == [FreezeScope.RECEIVING]


async def test_yesterdays_claims_do_not_count_and_the_freeze_ends_with_the_day(
    engine: Engine, settings: Settings
) -> None:
    async with persisting(settings):
        assert await receive(engine, "bob", 500) is Outcome.CLAIMED
        await caught_up(engine)
    await limit(engine, "bob", 500)
    assert await engine.freezes.in_force("bob") == [FreezeScope.RECEIVING]
    await engine.pool.execute("UPDATE freezes SET until_ms = 1")
    assert await lift_run_out(engine.pool) == 1
    await engine.pool.execute("ALTER TABLE transfers DISABLE TRIGGER transfers_are_immutable")
    await engine.pool.execute("UPDATE transfers SET at_ms = at_ms - $1", DAY_MS)
    await follower(engine).look()
    assert await engine.freezes.in_force("bob") == []


class FreezesAtMidnight(Freezes):
    """Before the first freeze the next day begins, and somebody else's limit is looked at."""

    watching: Receiving

    async def freeze(self, user_id: str, **how: Any) -> bool:  # noqa: ANN401  # those of ``Freezes.freeze``
        if await self._pool.fetchval("UPDATE clock.ahead SET days = 1 WHERE days = 0 RETURNING days"):
            await self.watching.look_at("carol")
        return await super().freeze(user_id, **how)


async def test_who_is_frozen_as_the_day_ends_is_not_frozen_for_the_next(settings: Settings) -> None:
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
        freezes = FreezesAtMidnight(engine.pool, engine.store)
        freezes.watching = Receiving(engine.pool, freezes, settings)
        await freezes.watching.look()
        found = [freeze for user in ("alice", "bob") for freeze in await engine.freezes.of(user)]
        assert len(found) == 2
        # Both were made after the day that they are for.
        assert {freeze.until_ms for freeze in found} == {day_ms(found[0].frozen_at_ms)[0]}


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
    assert await engine.freezes.in_force("carol") == [FreezeScope.RECEIVING]
    assert await engine.freezes.in_force("bob") == []
    await first.commit()
    for _ in range(1 + held):
        await watching.look()
    assert await engine.freezes.in_force("bob") == [FreezeScope.RECEIVING]


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
    assert await engine.freezes.in_force("bob") == [FreezeScope.RECEIVING]


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


async def test_two_followers_freeze_once(engine: Engine, settings: Settings) -> None:
    await limit(engine, "bob", 5)
    async with persisting(settings):
        assert await receive(engine, "bob", 10) is Outcome.CLAIMED
        await caught_up(engine)
    await asyncio.gather(*(follower(engine).look() for _ in range(4)))
    assert len(await engine.freezes.of("bob")) == 1
