"""A wallet's statement: every movement once, the balances run, the totals close, and odd days are named."""

import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.calendar.china_time import CHINA, day_of
from engine.engine import Engine
from engine.errors import InvalidFieldsError
from engine.records import SplitKind
from engine.settings import Settings
from engine.wallets.statement import COLUMNS, DAYS_MAX, TOTALS, Movement, Statement, read, yuan
from tests.support.days import whole_day
from tests.support.front import Client, open_front
from tests.support.scenes import caught_up, fund, let_time_run_out, persisting, send, settled, sweeping


def table(text: str) -> tuple[list[dict[str, str]], dict[str, str]]:
    """The rows and the totals, without their grave accents."""
    lines = list(csv.reader(io.StringIO(text)))
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
    assert answer.headers["content-disposition"] == 'attachment; filename="statement.csv"'
    rows, totals = table(answer.text)
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
        return table(answer.text)

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


async def test_too_many_movements_are_refused_and_not_cut(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = await day_of_movements(client)
    async with Engine.open(settings) as engine:
        monkeypatch.setattr("engine.wallets.statement.ROWS_MAX", 5)
        assert len((await read(engine.pool, "alice", today, today)).movements) == 5
        monkeypatch.setattr("engine.wallets.statement.ROWS_MAX", 4)
        with pytest.raises(InvalidFieldsError, match="more than 4 ledger entries"):
            await read(engine.pool, "alice", today, today)
        assert await read(engine.pool, "nobody", today, today) == Statement("nobody", 0, [])
        whole = await read(engine.pool, "nobody", date(2026, 1, 1), date(2026, 1, DAYS_MAX))
        assert whole == Statement("nobody", 0, [])


@given(st.integers(-(10**15), 10**15))
def test_amounts_are_written_exactly(amount_fen: int) -> None:
    whole, cents = yuan(amount_fen).split(".")
    assert len(cents) == 2
    assert int(whole + cents) == amount_fen
    assert yuan(amount_fen).startswith("-") == (amount_fen < 0)


def test_a_day_is_chinas() -> None:
    """Four in the afternoon of the day before, in UTC, is midnight there."""
    at_ms = int(datetime(2026, 2, 16, 16, 0, tzinfo=UTC).timestamp() * 1000)
    statement = Statement("alice", 0, [Movement(1, "deposit", 100, at_ms, 1, 100), Movement(2, "x", -1, at_ms, 1, 99)])
    rows, totals = table(statement.as_csv().decode())
    assert [row["记账时间"] for row in rows] == ["2026-02-17 00:00:00"] * 2
    assert (rows[1]["业务类型"], totals["支出金额"]) == ("x", "0.01")
