"""A wallet's statement: every movement once, the balances run, the totals close, and odd days are named."""

import asyncio
import codecs
import contextlib
import csv
import gc
import io
import tracemalloc
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.calendar.china_time import CHINA, begin_ms, day_of
from engine.engine import Engine
from engine.errors import InsufficientFundsError
from engine.packets.terms import terms_from
from engine.records import SplitKind
from engine.settings import Settings
from engine.text import yuan
from engine.wallets.statement import COLUMNS, DAYS_MAX, TOTALS
from tests.support.days import whole_day
from tests.support.front import Client, open_front
from tests.support.scenes import caught_up, fund, let_time_run_out, persisting, send, settled, sweeping


def table(content: bytes) -> tuple[list[dict[str, str]], dict[str, str]]:
    """The rows and the totals, without their grave accents."""
    text = content.decode("utf-8-sig")
    assert content == codecs.BOM_UTF8 + text.encode()
    assert all(line.endswith("\r\n") for line in text.splitlines(keepends=True))
    lines = list(csv.reader(io.StringIO(text, newline="")))
    assert tuple(lines[0]) == COLUMNS
    assert tuple(lines[-2]) == TOTALS
    assert all(value.startswith("`") for line in (*lines[1:-2], lines[-1]) for value in line)
    rows = [dict(zip(COLUMNS, (value[1:] for value in line), strict=True)) for line in lines[1:-2]]
    return rows, dict(zip(TOTALS, (value[1:] for value in lines[-1]), strict=True))


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    """Alice was given 100, sent 50 of which bob has 10 and the rest came back, and has 7 of carol's."""
    await whole_day()  # the tests read this day's movements
    async with Engine.open(settings) as engine, persisting(settings), sweeping(settings):
        await fund(engine, "alice", 5_000)
        sent = await send(engine, "alice", total_fen=5_000, count=5, split=SplitKind.EQUAL)
        await engine.claims.claim(sent.packet_id, "bob")
        await let_time_run_out(engine, sent.packet_id)
        await settled(engine, sent.packet_id)
        other = await send(engine, "carol", total_fen=700, count=1)
        await engine.claims.claim(other.packet_id, "alice")
        await caught_up(engine)
    async with open_front(settings) as client:
        yield client


async def day_of_movements(client: Client) -> date:
    """That of all of alice's movements."""
    answer = await client.http.get("/v1/wallets/alice/transfers", headers=client.as_user("alice"))
    (day,) = {day_of(item["at_ms"]) for item in answer.json()["transfers"]}
    return day


async def test_every_movement_is_there_and_the_totals_close(client: Client) -> None:
    answer = await client.http.get("/v1/wallets/alice/statement.csv", headers=client.as_user("alice"))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    day = await day_of_movements(client)
    name = f"statement_alice_{day.replace(day=1)}_{day}_provisional.csv"
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
    assert answer.headers["hongbao-statement"] == "provisional"
    rows, totals = table(answer.content)
    assert [(row["业务类型"], row["收支类型"], row["收支金额(元)"], row["账户结余(元)"]) for row in rows] == [
        ("充值", "收入", "50.00", "50.00"),
        ("充值", "收入", "50.00", "100.00"),
        ("发出红包", "支出", "50.00", "50.00"),
        ("红包退回", "收入", "40.00", "90.00"),
        ("领取红包", "收入", "7.00", "97.00"),
    ]
    assert [totals[name] for name in TOTALS] == ["5", "4", "147.00", "1", "50.00"]
    wallet = await client.http.get("/v1/wallets/alice", headers=client.as_user("alice"))
    assert yuan(wallet.json()["balance_fen"]) == rows[-1]["账户结余(元)"]
    transfers = await client.http.get("/v1/wallets/alice/transfers", headers=client.as_user("alice"))
    times = {item["transfer_id"]: item["at_ms"] // 1000 for item in transfers.json()["transfers"]}
    assert {
        row["资金流水单号"]: datetime.fromisoformat(row["记账时间"]).replace(tzinfo=CHINA).timestamp() for row in rows
    } == times


async def test_other_days_have_other_movements(client: Client) -> None:
    async def on(**days: str) -> tuple[list[dict[str, str]], dict[str, str]]:
        path = "/v1/wallets/alice/statement.csv"
        answer = await client.http.get(path, params=days, headers=client.as_user("alice"))
        assert answer.status_code == 200, answer.text
        return table(answer.content)

    today = await day_of_movements(client)
    tomorrow, yesterday = f"{today + timedelta(days=1)}", f"{today - timedelta(days=1)}"
    for days in ({"from": tomorrow, "to": tomorrow}, {"from": yesterday, "to": yesterday}):
        rows, totals = await on(**days)
        assert (rows, totals["资金流水总笔数"], totals["收入金额"]) == ([], "0", "0.00")
    rows, _ = await on(**{"from": yesterday, "to": tomorrow})
    assert len(rows) == 5


@pytest.mark.parametrize(
    ("days", "field"),
    [
        ({"from": "2026-02-02", "to": "2026-02-01"}, "to"),
        ({"from": "2026-01-01", "to": "2026-02-01"}, "to"),
        ({"from": "2026-02-30", "to": "2026-03-01"}, "from"),
        ({"from": "20260201"}, "from"),
        ({"from": "0"}, "from"),
        ({"to": ""}, "to"),
        ({"to": "2026-02-01T00:00:00"}, "to"),
        ({"to": "٢٠٢٦-02-01"}, "to"),
        ({"first": "2026-02-01"}, "first"),
    ],
)
async def test_odd_days_are_named(client: Client, days: dict[str, str], field: str) -> None:
    answer = await client.http.get("/v1/wallets/alice/statement.csv", params=days, headers=client.as_user("alice"))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_fields")
    assert [problem["field"] for problem in answer.json()["errors"]] == [field]


async def test_there_is_no_number_of_movements_that_is_too_many(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages that are full, that are not, and one that is empty."""
    today = await day_of_movements(client)
    whole = await client.http.get("/v1/wallets/alice/statement.csv", headers=client.as_user("alice"))
    async with Engine.open(settings) as engine:
        for page, sizes in ((1, [1] * 5), (2, [2, 2, 1]), (4, [4, 1]), (5, [5]), (6, [5])):
            monkeypatch.setattr("engine.wallets.statement.PAGE", page)
            statement = await engine.statements.of("alice", today.replace(day=1), today)
            assert [len(movements) async for movements in statement.pages()] == sizes
            assert b"".join([part async for part in statement.as_csv()]) == whole.content
        for first, last in ((today, today), (date(2026, 1, 1), date(2026, 1, DAYS_MAX))):
            nobodys = await engine.statements.of("nobody", first, last)
            assert [page async for page in nobodys.pages()] == []


@given(st.integers(-(10**15), 10**15))
def test_amounts_are_written_exactly(amount_fen: int) -> None:
    whole, cents = yuan(amount_fen).split(".")
    assert len(cents) == 2
    assert int(whole + cents) == amount_fen
    assert yuan(amount_fen).startswith("-") == (amount_fen < 0)


async def test_a_day_is_chinas(engine: Engine) -> None:
    """Four in the afternoon of the day before, in UTC, is midnight there."""
    await fund(engine, "alice", 100)
    at_ms = int(datetime(2026, 2, 16, 16, 0, tzinfo=UTC).timestamp() * 1000)
    await rewritten(engine, "UPDATE transfers SET at_ms = $1", at_ms)
    assert [await movements(engine, "alice", date(2026, 2, day)) for day in (16, 17, 18)] == [
        [],
        [("2026-02-17 00:00:00", "1.00", "1.00")],
        [],
    ]


async def rewritten(engine: Engine, statement: str, *values: object) -> None:
    """Do to the ledger what it refuses."""
    async with engine.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")  # no triggers
        await connection.execute(statement, *values)


async def movements(engine: Engine, user: str, day: date) -> list[tuple[str, str, str]]:
    """When, how much and what was held after it, of one day."""
    statement = await engine.statements.of(user, day, day)
    rows, _ = table(b"".join([part async for part in statement.as_csv()]))
    return [(row["记账时间"], row["收支金额(元)"], row["账户结余(元)"]) for row in rows]


async def test_entries_come_as_they_were_booked_and_the_balance_runs_as_it_was(engine: Engine) -> None:
    """Their times do not rise with them: here each is earlier than the one before, over two midnights."""
    for amount_fen in (100, 200, 400, 800, 1_600):
        await fund(engine, "alice", amount_fen)
    begins_ms = begin_ms(date(2026, 2, 17))
    times = {
        0: begins_ms - 9_000,
        1: begins_ms + 5_000,
        2: begins_ms - 2_000,
        3: begins_ms + 3_000,
        4: begins_ms + 86_400_000,
    }
    first = await engine.pool.fetchval("SELECT min(transfer_id) FROM transfers")
    for place, at_ms in times.items():
        await rewritten(engine, "UPDATE transfers SET at_ms = $2 WHERE transfer_id = $1", first + place, at_ms)
    assert [await movements(engine, "alice", date(2026, 2, day)) for day in (16, 17, 18)] == [
        [("2026-02-16 23:59:51", "1.00", "1.00")],
        [
            ("2026-02-17 00:00:05", "2.00", "3.00"),
            ("2026-02-17 00:00:05", "4.00", "7.00"),  # claimed before midnight, booked after it
            ("2026-02-17 00:00:05", "8.00", "15.00"),
        ],
        [("2026-02-18 00:00:00", "16.00", "31.00")],
    ]


async def test_no_balance_is_below_zero_when_money_comes_and_goes_at_once(engine: Engine) -> None:
    """What is sent has been there. Sends had Redis's time, from before they waited for their turn."""
    day = await whole_day()
    terms = terms_from(settings=engine.settings, total_fen=100, count=1, split=SplitKind.EQUAL)
    await fund(engine, "alice", 100)

    async def spend(number: int) -> None:
        for turn in range(6):
            with contextlib.suppress(InsufficientFundsError):
                key = f"{number}-{turn}"
                await engine.packets.send("alice", terms, idempotency_key=key, request_hash=b"send")

    async def earn() -> None:
        for _ in range(25):
            await fund(engine, "alice", 100)

    await asyncio.gather(*(spend(number) for number in range(8)), earn(), earn())
    statement = await engine.statements.of("alice", day, day)
    held = [movement.balance_fen async for page in statement.pages() for movement in page]
    assert len(held) > 51
    assert min(held) >= 0
    assert held[-1] == (await engine.wallets.get("alice")).balance_fen


@pytest.mark.long
async def test_a_large_statement_takes_no_more_memory_than_a_small_one(engine: Engine) -> None:
    """A page at a time, and no connection between two pages."""
    await fund(engine, "alice", 100)
    await engine.pool.execute(
        "INSERT INTO transfers (kind, from_account, to_account, amount_fen, at_ms) "
        "SELECT kind, from_account, to_account, 1, at_ms FROM transfers, generate_series(1, 40000)"
    )
    day = day_of(await engine.pool.fetchval("SELECT max(at_ms) FROM transfers"))
    statement = await engine.statements.of("alice", day, day)
    bytes_all = rows = 0
    gc.collect()
    tracemalloc.start()
    try:
        async for part in statement.as_csv():
            bytes_all, rows = bytes_all + len(part), rows + part.count(b"\r\n")
        _, bytes_max = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert rows == 40_001 + 3
    assert bytes_all > 3_000_000
    assert bytes_max < 1_500_000
