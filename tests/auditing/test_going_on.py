"""An audit that goes on from the anchor of the last one finds what is made wrong since, and knows what is sound."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import orjson
import pytest
import uvloop
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from engine.access.keyring import Keyring, Secret
from engine.auditing import kept
from engine.auditing.audit import Plan
from engine.auditing.snapshots import Snapshot
from engine.cli import audit as command
from engine.engine import Engine
from engine.ids import new_packet_number
from engine.lanes.topology import Topology
from engine.persisting.quarantine import Quarantine
from engine.settings import Settings
from tests.ledger.test_ledger_model import STEPS, events
from tests.support.administrator import Administrator
from tests.support.anchored import KEYRING, Looked, audited, broken, clean, look, problems
from tests.support.books import Books, claim, deposit, expired, opening
from tests.support.commands import hongbao
from tests.support.copies import Left
from tests.support.scenes import caught_up, fund, persisting, send, sweeping
from tests.support.tampered import UNCHECKED, pool_on
from tests.support.waiting import wait_until

pytestmark = pytest.mark.long

FULL = Plan(is_full=True)


async def some_claims(engine: Engine, prefix: str, count: int = 4) -> str:
    """A packet of which all but one share is claimed and in the ledger; its number."""
    packet_id = (await send(engine, count=count, total_fen=100 * count)).packet_id
    for number in range(count - 1):
        await engine.claims.claim(packet_id, f"{prefix}-{number}")
    await caught_up(engine)
    return packet_id


@pytest.fixture(scope="module")
def left(shared_settings: Settings) -> Left:
    """What an engine with a persister has done until its first audit, made once."""

    async def make() -> Left:
        async with Engine.open(shared_settings) as engine, persisting(shared_settings):
            await some_claims(engine, "first")
            await clean(engine)
        return await Left.by(shared_settings)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(make())


@pytest.fixture
async def busy(left: Left, administrator: Administrator) -> AsyncIterator[Engine]:
    """An engine with a persister, and an anchor on what it has done so far."""
    async with left.copied(administrator) as settings, Engine.open(settings) as engine, persisting(settings):
        yield engine


async def sql(engine: Engine, *statements: str) -> None:
    """Change the ledger behind its back, past the triggers."""
    async with engine.pool.acquire() as connection:
        await connection.execute("; ".join((UNCHECKED, *statements, "SET session_replication_role = origin")))


async def kept_balances(engine: Engine) -> dict[int, int]:
    rows = await engine.pool.fetch("SELECT account_id, balance_fen FROM audited_balances WHERE balance_fen <> 0")
    return {row["account_id"]: row["balance_fen"] for row in rows}


async def balances(engine: Engine) -> dict[int, int]:
    rows = await engine.pool.fetch("SELECT account_id, balance_fen FROM accounts WHERE balance_fen <> 0")
    return {row["account_id"]: row["balance_fen"] for row in rows}


async def test_it_examines_only_what_came_since(busy: Engine) -> None:
    await some_claims(busy, "second", count=6)
    done = await clean(busy)
    assert done.is_on
    assert done.scope.startswith("What came after the audit of ")
    assert done.scope.endswith(" is walked once more.")
    found = {finding.invariant: finding for finding in done.findings}
    # Both packets are open. The first is in the part that is walked once more, which is the only one.
    assert found["packets_add_up"].examined == 2
    assert found["events_applied"].examined == 1 + 5
    assert found["chains_unbroken"].heads != ()
    assert found["anchor_holds"].examined >= 1
    assert await kept_balances(busy) == await balances(busy)
    # Nothing has happened since: the part walked again now is the second one.
    third = await clean(busy)
    assert next(f for f in third.findings if f.invariant == "events_applied").examined == 0
    rows = await busy.pool.fetch(
        "SELECT audit_id, begins, is_full, walked_again, entries FROM audits ORDER BY audit_id"
    )
    assert [(row["audit_id"], row["begins"], row["is_full"], row["walked_again"]) for row in rows] == [
        (1, True, True, None),
        (2, False, False, 1),
        (3, False, False, 2),
    ]
    assert [row["entries"] for row in rows] == [2 + 3, 2 + 5, 0]


async def test_a_full_walk_keeps_an_anchor_too(busy: Engine) -> None:
    await some_claims(busy, "second")
    done = await clean(busy, FULL)
    assert (done.is_on, done.scope) == (False, "All history is examined.")
    assert await kept_balances(busy) == await balances(busy)
    assert await busy.pool.fetchval("SELECT entries FROM audits WHERE audit_id = 2") == 2 + 3
    assert (await clean(busy)).is_on


async def test_a_settled_packet_is_not_kept(busy: Engine) -> None:
    packet_id = (await send(busy, count=1, total_fen=5)).packet_id
    await clean(busy)
    assert (await kept_balances(busy))[int(packet_id)] == 5
    await busy.claims.claim(packet_id, "bob")
    await caught_up(busy)
    await clean(busy)
    assert int(packet_id) not in await kept_balances(busy)


async def test_what_redis_has_dropped_is_not_asked_for(busy: Engine) -> None:
    """A full walk asks for every packet, one that goes on for those that Redis may still hold."""
    packet_id = (await send(busy, count=1, total_fen=5)).packet_id
    await busy.claims.claim(packet_id, "bob")
    await caught_up(busy)

    async def asked_for(plan: Plan | None = None) -> int:
        found = {finding.invariant: finding for finding in (await clean(busy, plan)).findings}
        return found["redis_agrees"].examined

    assert (await asked_for(), await asked_for(FULL)) == (2, 2)
    await sql(busy, f"UPDATE packets SET settled_at_ms = 1 WHERE packet_id = {packet_id}")
    assert (await asked_for(), await asked_for(FULL)) == (1, 2)  # here it has not been dropped yet


SINCE = [
    ("UPDATE accounts SET balance_fen = balance_fen + 1 WHERE owner = 'first-0'", "wallet account"),
    ("UPDATE accounts SET balance_fen = 5 WHERE owner = 'nobody'", "custody account"),
    ("UPDATE accounts SET hash = sha256('x') WHERE account_id = 1", "account 1: its last entries were removed"),
    ("UPDATE accounts SET hash = sha256('x') WHERE owner = 'first-0'", "its last entries were removed, or its head"),
    ("UPDATE audited_balances SET balance_fen = balance_fen + 1 WHERE account_id = 1", "the balances that it kept"),
    ("DELETE FROM audited_balances WHERE account_id = 1", "the balances that it kept were changed"),
    ("UPDATE audited_balances SET hash = sha256('x') WHERE account_id = 1", "the balances that it kept were changed"),
    ("UPDATE audits SET transfer_id = transfer_id + 1", "its anchor was changed or forged"),
    ("UPDATE audits SET lanes = '{}'", "its anchor was changed or forged"),
    ("UPDATE audits SET lanes = '[1]', key_id = 'x', at_ms = 9000000000000000000", "changed or forged"),
    ("UPDATE audits SET signature = sha256(signature)", "its anchor was changed or forged"),
    (
        "INSERT INTO audits SELECT audit_id + 1, at_ms, begins, is_full, walked_again, transfer_id, "
        "last_transfer_id, entries, own_entries, lanes, balances_digest, key_id, signature FROM audits",
        "its anchor was changed or forged",
    ),
    ("UPDATE batches SET hash = sha256('x') WHERE position = (SELECT max(position) FROM batches)", "its hash differs"),
    ("DELETE FROM transfers WHERE transfer_id = (SELECT max(transfer_id) FROM transfers)", "is gone from the ledger"),
    ("DELETE FROM accounts WHERE owner = 'first-0'", "which does not exist"),
]


@pytest.mark.parametrize(("statement", "told"), SINCE, ids=[str(number) for number in range(len(SINCE))])
async def test_what_the_anchor_covers_is_not_changed_unnoticed(busy: Engine, statement: str, told: str) -> None:
    """What is below the anchor, as far as an audit from there must see it."""
    if "nobody" in statement:
        packet_id = (await send(busy, count=1, total_fen=5)).packet_id
        await busy.claims.claim(packet_id, "first-0")
        await caught_up(busy)
        await clean(busy)
        statement = f"UPDATE accounts SET balance_fen = 5 WHERE account_id = {packet_id}"
    await sql(busy, statement)
    done = await audited(busy)
    assert any(told in problem for problem in problems(done.findings)), problems(done.findings)
    assert await busy.pool.fetchval("SELECT count(*) FROM audits WHERE at_ms > 1") <= 2  # none was kept


OLD = [
    ("UPDATE transfers SET amount_fen = amount_fen + 1 WHERE kind = 'claim' AND transfer_id = {id}", "was changed"),
    ("UPDATE transfers SET at_ms = at_ms + 1 WHERE kind = 'claim' AND transfer_id = {id}", "was changed"),
    ("DELETE FROM transfers WHERE transfer_id = {id}", "claims, the ledger has"),
    ("UPDATE transfers SET at_ms = at_ms + 1 WHERE kind = 'send' AND to_account = {packet}", "a send of 400 fen"),
    (
        "DELETE FROM transfer_hashes WHERE transfer_id = (SELECT transfer_id FROM transfers WHERE kind = 'send' AND "
        "to_account = {solo}); DELETE FROM transfers WHERE kind = 'send' AND to_account = {solo}",
        "6 entries were there, now 5 are",
    ),
    ("UPDATE packets SET seed = sha256('x') WHERE packet_id = {packet}", "not those it committed to"),
    ("UPDATE batches SET claims = claims + 1, position_before = position_before WHERE claims > 0", "it had"),
]


@pytest.mark.parametrize(("statement", "told"), OLD, ids=[str(number) for number in range(len(OLD))])
async def test_an_old_row_is_found_when_its_part_is_walked_again(busy: Engine, statement: str, told: str) -> None:
    """Two parts, of which the second is walked again by the second audit after it. A full walk finds it at once."""
    packet = await some_claims(busy, "second")
    solo = (await send(busy, "solo", count=1, total_fen=5)).packet_id
    await some_claims(busy, "second", count=1)
    await busy.claims.claim(packet, "second-last")
    await caught_up(busy)
    await clean(busy)
    await some_claims(busy, "third")
    claimed = await busy.pool.fetchval("SELECT min(transfer_id) FROM transfers WHERE from_account = $1", int(packet))
    await sql(
        busy, "ALTER TABLE batches DROP CONSTRAINT moves_on", statement.format(id=claimed, packet=packet, solo=solo)
    )
    assert problems((await audited(busy, plan=FULL)).findings) != []
    # It has been settled for long, or an audit would look at it whatever part it is of.
    await sql(busy, f"UPDATE packets SET settled_at_ms = 1 WHERE packet_id = {packet}")
    found: list[str] = []
    for _ in range(2):
        found += problems((await audited(busy)).findings)
    assert any(told in problem for problem in found), found


async def test_what_was_open_at_the_cut_is_no_gap(busy: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deposit has its number and is committed after the audit, which then keeps no anchor. The next one sees it."""
    monkeypatch.setattr(kept, "_CUT_S_MAX", 0.3)
    async with asyncio.timeout(30), busy.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await deposit(connection, "late", 77)
        await asyncio.wait_for(
            busy.pool.execute("SELECT nextval(pg_get_serial_sequence('transfers', 'transfer_id'))"), 5
        )
        done = await audited(busy)
        assert broken(done.findings) == {}
        assert done.not_kept == "a transaction in Postgres has been open for too long"
        await transaction.commit()
    assert (await clean(busy)).is_on
    assert await kept_balances(busy) == await balances(busy)


async def test_an_audit_waits_for_what_is_open(busy: Engine) -> None:
    """A deposit has its number, and is committed after a claim with a later one, while the audit is under way."""
    packet_id = await some_claims(busy, "second")
    async with asyncio.timeout(30), busy.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await deposit(connection, "late", 77)
        await busy.claims.claim(packet_id, "later")
        await caught_up(busy)
        running = asyncio.create_task(clean(busy))
        await wait_until(lambda: _looks(busy), what="an audit that looks whether the deposit is open")
        assert not running.done()
        await transaction.commit()
    assert (await running).is_on
    assert await kept_balances(busy) == await balances(busy)


async def _looks(engine: Engine) -> bool:
    query = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND query = $1)"
    return bool(await engine.pool.fetchval(query, kept.SQL["oldest"]))


async def test_of_two_audits_at_once_each_anchor_goes_on_from_the_one_before(busy: Engine) -> None:
    await fund(busy, "bob", 5)
    both = await asyncio.gather(audited(busy), audited(busy))
    assert [broken(done.findings) for done in both] == [{}, {}]
    not_kept = [done.not_kept for done in both if done.not_kept is not None]
    assert set(not_kept) <= {"another audit has kept one meanwhile"}
    assert await busy.pool.fetchval("SELECT count(*) FROM audits") == 1 + 2 - len(not_kept)
    assert await kept_balances(busy) == await balances(busy)
    await clean(busy)


async def test_a_busy_engine_raises_no_false_alarm_over_several_audits(busy: Engine) -> None:
    packets = [(await send(busy, count=40, total_fen=4_000)).packet_id for _ in range(6)]
    done = asyncio.Event()

    async def tap(hand: int) -> None:
        for number in range(40):
            await busy.claims.claim(packets[(hand + number) % len(packets)], f"user-{hand}-{number % 30}")
            if number % 8 == 0:
                await fund(busy, f"user-{hand}", 3)
        if hand == 0:
            done.set()

    async with asyncio.TaskGroup() as group:
        for hand in range(12):
            group.create_task(tap(hand))
        audits = 0
        while not done.is_set() or audits < 4:
            assert (await clean(busy)).is_on
            audits += 1
    await caught_up(busy)
    await clean(busy)
    assert await kept_balances(busy) == await balances(busy)
    await clean(busy, FULL)


async def test_a_secret_that_is_gone_or_none_means_all_history(busy: Engine) -> None:
    new = Secret("k2", b"another secret, which is just as long as the first")
    both = Keyring([new, *KEYRING.secrets])
    assert (await audited(busy, both)).is_on  # signed with the new one from here on
    assert (await audited(busy, Keyring([new]))).is_on
    done = await audited(busy)
    assert broken(done.findings) == {}
    assert done.scope == (
        "All history is examined, because the last anchor does not count: the secret that signed it is not in force."
    )
    assert (await clean(busy)).is_on
    without = await audited(busy, None)
    assert (without.is_on, without.not_kept) == (False, "there is no secret to sign it with")
    assert without.scope.endswith("there is no secret to check it with.")


async def test_after_an_investigation_the_anchors_begin_anew(busy: Engine) -> None:
    await sql(busy, "UPDATE audits SET transfer_id = transfer_id + 1")
    for plan in (Plan(), FULL):
        assert set(broken((await audited(busy, plan=plan)).findings)) == {"anchor_holds"}
    await clean(busy, Plan(is_anew=True))
    assert (await clean(busy)).is_on
    assert [row["begins"] for row in await busy.pool.fetch("SELECT begins FROM audits ORDER BY audit_id")] == [
        True,
        True,
        False,
    ]


async def test_several_lanes_are_walked_at_once(busy: Engine) -> None:
    for number in range(4):
        await some_claims(busy, f"user-{number}")
    told: list[tuple[str, int, int]] = []
    plan = Plan(jobs=2, is_full=True, told=lambda *what: told.append(what))
    done = await clean(busy, plan)
    assert {finding.invariant: finding.examined for finding in done.findings}["no_slot_twice"] == 3 * 5
    assert [row[1] for row in told] == list(range(1, told[-1][2] + 1))
    packet = await some_claims(busy, "bob")
    await sql(busy, f"UPDATE transfers SET at_ms = at_ms + 1 WHERE from_account = {packet}")
    assert "was changed" in " ".join(problems((await audited(busy, plan=Plan(jobs=2))).findings))


async def test_a_withdrawal_that_ends_after_the_anchor(busy: Engine) -> None:
    await busy.payment_passwords.put("alice", "135790", None)
    await fund(busy, "alice", 200_200)
    for key in ("1", "2"):
        await busy.withdrawals.withdraw(
            "alice", 100_000, f"622202020011223{key}", "135790", idempotency_key=key, request_hash=b"withdraw"
        )
    found = {finding.invariant: finding for finding in (await clean(busy)).findings}
    assert found["withdrawals_add_up"].examined == 2

    async def none_is_left() -> bool:
        left: int = await busy.pool.fetchval("SELECT count(*) FROM withdrawals WHERE state = 'processing'")
        return left == 0

    async with sweeping(busy.settings):
        await wait_until(none_is_left, timeout_s=10, what="the withdrawals' ending")
    await clean(busy)
    await sql(busy, "UPDATE withdrawals SET amount_fen = amount_fen + 1 WHERE withdrawal_id = 1")
    assert "withdrawals_add_up" in broken((await audited(busy, plan=FULL)).findings)


async def test_who_may_only_read_keeps_no_anchor(settings: Settings, tmp_path: Path) -> None:
    """And each way of the command says what it examined."""
    shell = {
        "HONGBAO_REDIS_URL": str(settings.redis_url),
        "HONGBAO_DATABASE_URL": str(settings.database_url),
        "HONGBAO_AUTH_SECRET": "a secret of this test, which is long enough",
    }
    async with Engine.open(settings) as engine, persisting(settings):
        await some_claims(engine, "first")
        await engine.pool.execute("CREATE ROLE only_reads LOGIN IN ROLE pg_read_all_data")
        try:
            reader = {
                **shell,
                "HONGBAO_DATABASE_URL": shell["HONGBAO_DATABASE_URL"].replace("postgres@", "only_reads@"),
            }
            words = ("audit", "--data-dir", tmp_path)
            read = await asyncio.to_thread(hongbao, *words, **reader)
            assert read.returncode == 0
            assert read.stdout.splitlines()[0] == "All history is examined, because no anchor is kept yet."
            assert read.stderr == (
                "No anchor is kept, so the next audit begins where this one began: "
                "this user of Postgres may not write.\n"
            )
            first = await asyncio.to_thread(hongbao, *words, "--jobs", "2", **shell)
            assert (first.returncode, first.stderr) == (0, "")
            await engine.pool.execute(
                "GRANT INSERT ON audits TO only_reads; GRANT INSERT, UPDATE, DELETE ON audited_balances TO only_reads"
            )
            on = await asyncio.to_thread(hongbao, *words, **reader)
            assert (on.returncode, on.stderr) == (0, "")  # it may keep one now
            assert on.stdout.startswith("What came after the audit of ")
            rotated = {**shell, "HONGBAO_AUTH_SECRET": "another secret of this test, long enough as well"}
            doubtful = await asyncio.to_thread(hongbao, *words, "--json", **rotated)
            assert (doubtful.returncode, doubtful.stderr) == (
                0,
                "All history is examined, because the last anchor does not count: "
                "the secret that signed it is not in force.\n",
            )
            anew = await asyncio.to_thread(hongbao, *words, "--begin-anew", **shell)
            assert (anew.stderr, anew.stdout.splitlines()[0]) == ("", "All history is examined.")
            as_json = await asyncio.to_thread(hongbao, *words, "--full", "--json", **shell)
            assert (as_json.returncode, as_json.stderr) == (0, "")
            assert {"invariant", "statement", "examined", "problems", "more", "holds"} == set(
                orjson.loads(as_json.stdout)[0]
            )
        finally:
            await engine.pool.execute("DROP OWNED BY only_reads; DROP ROLE only_reads")


@pytest.mark.parametrize("is_terminal", [False, True])
def test_an_audit_that_takes_long_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_terminal: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    for silent_s in (60.0, -1.0):
        monkeypatch.setattr(command, "_SILENT_S", silent_s)
        with command._progress() as told:
            told("one thing", 3, 17)
    said = capsys.readouterr().err
    if not is_terminal:
        assert said == "3 of 17 done after 0 s: one thing.\n"
    else:
        assert "3/17" in said
        assert "one thing" in said


async def test_a_change_that_is_retried_after_the_anchor(books: Books, database_url: str, settings: Settings) -> None:
    """Its entry is late, with a position that the anchor covers."""
    async with Engine.open(settings) as engine, pool_on(database_url) as pool:
        number = int(new_packet_number(0))
        await books.apply(opening(number), claim(number, "bob", 0, 60), expired(number, 2, 40))
        await books.packet(total_fen=100, count=3, number=number)
        await look(pool, keeps=True)
        quarantine = Quarantine(books.connection, Topology.of_one(engine.redis), 600_000)
        rows = [row async for row in quarantine.rows()]
        for row in rows:
            assert (await quarantine.retry(row.quarantine_id, by="root")).resolved
        await books.apply(opening(await books.packet()))
        for _ in range(3):
            found = await look(pool, keeps=True)
            assert found.is_on
            assert [problem for problem in found.problems if "committed" not in problem] == []
        # Another entry with the position of a change that was retried is not the one that was retried.
        await books.connection.execute(
            f"{UNCHECKED}; INSERT INTO transfers (kind, from_account, to_account, amount_fen, at_ms, slot, position)"
            " SELECT kind, from_account, 2, 1, at_ms, 1, position FROM transfers"
            " WHERE kind = 'claim' AND position = 2"
        )
        stray = f"a claim out of {number} belongs to no batch"
        assert any(stray in problem for problem in (await look(pool)).problems)
        await books.connection.execute("DELETE FROM transfers WHERE kind = 'claim' AND slot = 1 AND position = 2")
        await books.connection.execute(f"{UNCHECKED}; UPDATE transfers SET amount_fen = 59 WHERE position = 2")
        assert any("was retried, and is not in the ledger" in problem for problem in (await look(pool)).problems)


async def test_a_claim_that_is_slipped_in_beside_the_end_of_a_part(
    books: Books, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number is one of those that the audit saw after the cut, its position one of an earlier part."""
    async with pool_on(database_url) as pool:
        number = await books.packet(total_fen=100, count=4)
        await books.apply(opening(number), claim(number, "bob", 0, 25), claim(number, "carol", 1, 25))
        await look(pool, keeps=True)
        await books.apply(claim(number, "dave", 3, 25))
        cut = await kept.cut_id(pool)
        assert cut is not None
        await pool.execute("SELECT nextval('transfer_ids')")  # it was rolled back
        await deposit(books.connection, "erin", 5)

        async def cut_before(_pool: asyncpg.Pool) -> int:
            return cut

        with monkeypatch.context() as patched:
            patched.setattr(kept, "cut_id", cut_before)
            await look(pool, keeps=True)
        await books.connection.execute(
            f"""{UNCHECKED};
            INSERT INTO transfers (transfer_id, kind, from_account, to_account, amount_fen, at_ms, slot, position)
            SELECT {cut + 1}, 'claim', {number}, account_id, 25, 1, 2, 2 FROM accounts WHERE owner = 'erin';
            UPDATE accounts SET balance_fen = balance_fen - 25 WHERE account_id = {number};
            UPDATE accounts SET balance_fen = balance_fen + 25 WHERE owner = 'erin'"""
        )
        found = [problem for _ in range(3) for problem in (await look(pool, keeps=True)).problems]
    assert f"entry {cut + 1}: a claim out of {number} belongs to no batch" in found


async def test_a_snapshot_ends_its_other_work_at_the_first_error(database_url: str) -> None:
    async with pool_on(database_url) as pool, Snapshot.open(pool) as snapshot:
        with pytest.raises(asyncpg.UndefinedTableError):
            await snapshot.do([lambda pair: pair.connection.fetch("SELECT FROM nothing")])


@pytest.fixture
def quarantine(books: Books, redis: Redis) -> Quarantine:
    return Quarantine(books.connection, Topology.of_one(redis), 600_000)


@pytest.fixture
async def pool(books: Books, database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncpg.Pool]:
    monkeypatch.setattr("engine.auditing.findings.PROBLEMS_MAX", 1_000_000)
    async with pool_on(database_url) as made:
        yield made


@given(
    steps=STEPS,
    given_=st.tuples(st.lists(st.integers(1, 9), min_size=12, max_size=12), st.integers(0, 3)),
)
@hypothesis_settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    # The database is kept: every example has packets and users of its own in it, and goes on from the one before.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_wherever_the_anchors_are_it_finds_what_a_full_walk_finds(
    pool: asyncpg.Pool,
    quarantine: Quarantine,
    books: Books,
    steps: list[tuple[str, int, int, int, int]],
    given_: tuple[list[int], int],
) -> None:
    """Changes of every kind, rows in quarantine that are retried or written off, and an anchor after every few."""
    cuts, retries = given_
    example = await books.connection.fetchval("SELECT count(*) FROM packets")
    numbers = [await books.packet(total_fen=100, count=6) for _ in range(3)] + [int(new_packet_number(0))]
    waiting = events(steps, numbers, f"{example}-")
    for size in cuts:
        batch, waiting = waiting[:size], waiting[size:]
        if batch:
            await books.apply(*(change for event in batch for change in event))
        rows = [row async for row in quarantine.rows()]
        for row in rows[:retries]:
            if not (await quarantine.retry(row.quarantine_id, by="root")).resolved:
                await quarantine.write_off(row.quarantine_id, reason="a test", by="root")
        whole, on = await look(pool, FULL), await look(pool, keeps=True)
        # What is wrong with a packet is wrong for good, but a packet of an earlier part is not looked at any more.
        of_packets = {"packets_add_up", "shares_as_split"}
        assert broken_but(on, of_packets) == broken_but(whole, of_packets)
        assert set(on.problems) <= set(whole.problems)


def broken_but(looked: Looked, left_out: set[str]) -> dict[str, tuple[str, ...]]:
    return {name: told for name, told in broken(looked.findings).items() if name not in left_out}
