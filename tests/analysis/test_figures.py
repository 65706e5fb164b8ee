"""Each picture's numbers against scenes whose answers are known, on a real Postgres."""

import csv
import io
import random
from collections.abc import AsyncIterator
from datetime import date, timedelta

import asyncpg
import pytest

from engine.analysis import report
from engine.analysis.finding import Finding, Language
from engine.analysis.scope import DAYS_MAX, check_days
from engine.analysis.studies import STUDIES, Study, study
from engine.calendar.china_time import begin_ms, today
from engine.errors import InvalidFieldsError, OperatorError
from engine.ledger.database import database_pool
from engine.records import SplitKind
from tests.support.analysis_scene import DAY_MS, HOUR_MS, Scene, lively
from tests.support.chinese_font import needs_chinese_font

DAY = date(2026, 2, 17)  # the first of the Chinese year
AT = begin_ms(DAY)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    found = await database_pool(database_url, connections_max=3, timeout_s=60.0)
    yield found
    await found.close()


async def written(pool: asyncpg.Pool, *scenes: Scene) -> None:
    async with pool.acquire() as connection:
        for scene in scenes:
            await scene.write(connection)


async def asked(
    pool: asyncpg.Pool, name: str, first: date = DAY, last: date = DAY, asset: str | None = None
) -> Finding:
    (finding,) = (await study(pool, first, last, names=[name], asset=asset)).findings
    return finding


def records(finding: Finding) -> list[dict[str, object]]:
    return [dict(zip(finding.columns, row, strict=True)) for row in finding.rows]


def taps(*after_ms: int, of: int = AT) -> list[tuple[str, int]]:
    return [(f"user-{place}", of + after) for place, after in enumerate(after_ms)]


@pytest.mark.parametrize("name", STUDIES)
async def test_where_nothing_happened_there_is_nothing_to_draw(pool: asyncpg.Pool, name: str) -> None:
    finding = await asked(pool, name)
    assert finding.is_empty
    assert {len(said.sentences) for said in finding.said.values()} == {0}
    assert report.draw(finding, Language.EN).png is None


@pytest.mark.long
@pytest.mark.parametrize("language", Language)
async def test_one_packet_can_be_drawn(pool: asyncpg.Pool, language: Language) -> None:
    if language is Language.ZH:
        needs_chinese_font()
    scene = Scene()
    scene.packet("alice", 10, 10_000, AT + 1_000, taps(*range(1_100, 1_200, 10)))
    await written(pool, scene)
    found = await study(pool, DAY, DAY)
    drawn = {finding.name: report.draw(finding, language).png for finding in found.findings}
    assert {name for name, png in drawn.items() if png is None} == {"refunds", "campaigns"}
    assert all(png is None or png.startswith(b"\x89PNG") for png in drawn.values())


async def test_time_to_sold_out_is_of_all_packets_of_the_size_that_ended(pool: asyncpg.Pool) -> None:
    scene = Scene()
    for took_ms in (1_000, 2_000, 3_000, 10_000):
        scene.packet("alice", 2, 200, AT, taps(500, took_ms))
    scene.packet("alice", 2, 200, AT, taps(7), ends_at_ms=AT + DAY_MS)
    scene.packet("alice", 2, 200, AT, taps(7))  # open: of it nobody knows
    scene.packet("alice", 2, 200, AT, [], ends_at_ms=AT + 9, state="retracted")
    scene.packet("alice", 100, 10_000, AT, taps(*range(1, 101)))
    scene.packet("alice", 2, 200, AT - 1, taps(5, 6))  # of the day before
    await written(pool, scene)
    finding = await asked(pool, "sold_out")
    small = [row for row in records(finding) if row["shares"] == "1–10"]
    assert {(row["packets"], row["sold_out"]) for row in small} == {(5, 4)}
    at = {row["part_of_packets"]: row["seconds"] for row in small}
    assert (at[0.2], at[0.4], at[0.6], at[0.8]) == (1.0, 2.0, 3.0, 10.0)
    assert "Of 6 packets sent on 2026-02-17 that have ended, 5 sold out." in finding.said[Language.EN].sentences[0]
    assert finding.said[Language.EN].title == "83% of packets sold out, half of the commonest size within 2 s"


async def test_a_quantile_is_the_first_time_by_which_so_many_had_sold_out(pool: asyncpg.Pool) -> None:
    chance = random.Random(3)
    for place in range(12):
        day, scene = DAY + timedelta(days=place), Scene(first_wallet=1_000 + 10_000 * place)
        took = [chance.randrange(1, 50_000) for _ in range(chance.randrange(1, 40))]
        scene.wallets = {} if place == 0 else {f"user-{place}-{n}": 1_000 + 10_000 * place + n for n in range(2)}
        for ms in took:
            at = begin_ms(day)
            scene.packet("alice", 2, 200, at, [(f"user-{place}-0", at), (f"user-{place}-1", at + ms)])
        await written(pool, scene)
        for row in records(await asked(pool, "sold_out", day, day)):
            by_then = sum(ms / 1_000 <= float(str(row["seconds"])) for ms in took) / len(took)
            before = sum(ms / 1_000 < float(str(row["seconds"])) for ms in took) / len(took)
            assert before < float(str(row["part_of_packets"])) <= by_then + 1e-6


def gini(amounts: list[int]) -> float:
    """By its definition: half the mean difference of two users, in means."""
    differences = sum(abs(one - other) for one in amounts for other in amounts)
    return differences / (2 * len(amounts) * sum(amounts))


async def test_gini_and_lorenz_are_those_of_their_definitions(pool: asyncpg.Pool) -> None:
    chance = random.Random(5)
    for place in range(20):
        day, users = DAY + timedelta(days=place), 1 if place == 0 else chance.randrange(2, 250)
        amounts = [7 if place == 1 else int(chance.paretovariate(0.7)) + 1 for _ in range(users)]
        scene = Scene(first_wallet=1_000 + 10_000 * place)
        for number, amount in enumerate(amounts):
            for part in (amount, 2 * amount):
                at = begin_ms(day) + number
                scene.packet(
                    f"from-{place}-{number}", 1, part, at, [(f"to-{place}-{number}", at)], kind=SplitKind.EQUAL
                )
        await written(pool, scene)
        rows = records(await asked(pool, "concentration", day, day))
        for side in ("sending", "receiving"):
            own = [row for row in rows if row["side"] == side]
            assert {row["users"] for row in own} == {users}
            assert float(str(own[0]["gini"])) == pytest.approx(gini(amounts), abs=1e-5)
            assert 0 <= gini(amounts) <= 1 - 1 / users
            assert len(own) == min(users, 100)
            assert (own[-1]["part_of_users"], own[-1]["part_of_amount"]) == (1, 1)
            ordered = sorted(amounts)
            for row in own:
                poorest = round(float(str(row["part_of_users"])) * users)
                due = sum(ordered[:poorest]) / sum(ordered)
                assert float(str(row["part_of_amount"])) == pytest.approx(due, abs=2e-6)
                assert due <= poorest / users + 1e-9


async def test_a_storm_is_counted_in_tenths_of_a_second_if_it_was_short(pool: asyncpg.Pool) -> None:
    scene = Scene()
    scene.packet("alice", 4, 400, AT, taps(5_000, 5_020, 5_099, 6_050))
    await written(pool, scene)
    finding = await asked(pool, "storm")
    rows = records(finding)
    assert [row["packets_per_s"] for row in rows] == [30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10]
    assert [row["sold_out_packets"] for row in rows] == [0] * 10 + [1]
    assert rows[0]["at"] == "00:00:05"
    assert "30 shares per second at its peak" in finding.said[Language.EN].title


async def test_a_storm_is_the_busiest_minute_and_five_around_it(pool: asyncpg.Pool) -> None:
    scene, noon = Scene(), AT + 12 * HOUR_MS
    scene.packet("alice", 3, 300, AT, taps(0, 1, 2))  # at midnight: less
    scene.packet("alice", 9, 900, noon, taps(*range(0, 40_000, 5_000), 200_000, of=noon))
    await written(pool, scene)
    rows = records(await asked(pool, "storm"))
    assert len(rows) == 201
    assert sum(int(str(row["packets_per_s"])) for row in rows) == 9


@pytest.mark.long
async def test_shares_follow_the_law_and_others_are_noticed(pool: asyncpg.Pool) -> None:
    await written(pool, lively(DAY, 1, 60, users=120))
    finding = await asked(pool, "shares", DAY, DAY + timedelta(days=1))
    assert finding.said[Language.EN].title == "Shares follow the split's law"
    assert sum(finding.numbers("part")) == pytest.approx(1, abs=1e-4)
    assert sum(finding.numbers("part_by_law")) == pytest.approx(1, abs=1e-4)
    async with pool.acquire() as connection:  # as if everybody had nearly the mean
        await connection.execute(
            "ALTER TABLE transfers DISABLE TRIGGER USER; ALTER TABLE transfers_10 DISABLE TRIGGER USER"
        )
        await connection.execute(
            "UPDATE transfers SET amount_fen = total_fen / count FROM packets WHERE kind = 'claim' AND packet_id = "
            "from_account"
        )
    strayed = await asked(pool, "shares", DAY, DAY + timedelta(days=1))
    assert "stray" in strayed.said[Language.EN].title


async def test_the_luckiest_is_the_first_of_the_largest(pool: asyncpg.Pool) -> None:
    scene = Scene()
    for count, luckiest in ((10, 0), (10, 9), (20, 3), (15, 14)):
        packet = scene.packet("alice", count, count * 100, AT, taps(*range(count)))
        places = [place for place, entry in enumerate(scene.entries) if entry[1] == packet]
        for slot, place in enumerate(places):
            amount = 500 if slot >= luckiest else 100
            scene.entries[place] = (*scene.entries[place][:3], amount, *scene.entries[place][4:])
    scene.packet("alice", 9, 900, AT, taps(*range(9)))  # too few to have tenths
    await written(pool, scene)
    finding = await asked(pool, "luckiest")
    assert finding.column("packets") == [1, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    expected = [0.1 + 0.1 + 0.1 + count / 15 for count in (2, 1, 2, 1, 2, 1, 2, 1, 2, 1)]
    assert finding.numbers("expected_part") == pytest.approx([part / 4 for part in expected], abs=1e-6)


async def test_what_dies_unclaimed_is_counted_by_how_it_ended(pool: asyncpg.Pool) -> None:
    scene = Scene()
    scene.packet("alice", 2, 200, AT, taps(1, 2), kind=SplitKind.EQUAL)
    scene.packet("alice", 2, 200, AT, taps(1), ends_at_ms=AT + DAY_MS, kind=SplitKind.EQUAL)
    scene.packet("alice", 2, 300, AT, [], ends_at_ms=AT + DAY_MS, kind=SplitKind.EQUAL)
    scene.packet("alice", 2, 200, AT, [], ends_at_ms=AT + 9, state="retracted", kind=SplitKind.EQUAL)
    await written(pool, scene)
    finding = await asked(pool, "unclaimed")
    (row,) = records(finding)
    assert tuple(row.values()) == ("2–10", 4, 1, 1, 1, 1, 9.0, 4.0)
    assert finding.said[Language.EN].title == "44% of the money died unclaimed and went back to its senders"


async def test_refunds_are_by_their_hour_and_by_their_amount(pool: asyncpg.Pool) -> None:
    scene = Scene()
    for hour, fen in ((3, 99), (3, 100), (23, 5_000)):
        scene.packet("alice", 1, fen, AT - DAY_MS, [], ends_at_ms=AT + hour * HOUR_MS, kind=SplitKind.EQUAL)
    await written(pool, scene)
    finding = await asked(pool, "refunds")
    filled = [
        (row["hour"], row["amount_from"], row["refunds"], row["amount"]) for row in records(finding) if row["refunds"]
    ]
    assert filled == [(3, 0, 1, 0.99), (3, 1.0, 1, 1.0), (23, 10.0, 1, 50.0)]
    assert finding.said[Language.EN].title == "¥51.99 went back to senders, most often at 03:00"


async def test_activity_is_by_hour_and_by_festival_in_china(pool: asyncpg.Pool) -> None:
    scene = Scene()
    scene.packet("alice", 2, 200, AT, taps(0, 1))
    before = AT - 3 * DAY_MS - 1  # 13 February at 23:59, an ordinary day
    scene.packet("alice", 1, 100, before, [("bob", before)])
    await written(pool, scene)
    finding = await asked(pool, "activity", date(2026, 2, 13), DAY)
    rows = {(row["by"], row["of"]): (row["days"], row["packets"], row["claims"]) for row in records(finding)}
    assert rows["hour", "00"] == (5, 1, 2)
    assert rows["hour", "23"] == (5, 1, 1)
    assert rows["occasion", "ordinary"] == (2, 1, 1)
    assert rows["occasion", "spring_festival_eve"] == (1, 0, 0)
    assert rows["occasion", "spring_festival"] == (1, 1, 2)
    assert rows["occasion", "valentines_day"] == (1, 0, 0)
    assert (
        "On Spring Festival, a day had 4.0 times the claims of an ordinary one."
        in finding.said[Language.EN].sentences[0]
    )


async def test_a_campaign_is_what_was_won_what_came_back_and_what_is_open(pool: asyncpg.Pool) -> None:
    scene = Scene()
    parts = [(4, 400, taps(1, 2, 3), True), (6, 600, taps(5), False)]
    scene.campaign("=红包雨", AT, parts, 800_000)
    await written(pool, scene)
    finding = await asked(pool, "campaigns")
    (row,) = records(finding)
    assert {name: row[name] for name in ("shares", "won", "winners", "returned", "left", "open_parts", "odds")} == {
        "shares": 10,
        "won": 4,
        "winners": 3,
        "returned": 1,
        "left": 5,
        "open_parts": 1,
        "odds": 0.8,
    }
    assert "20% of the users miss" in finding.said[Language.EN].sentences[1]
    assert b"'=\xe7\xba\xa2" in report.csv_of(finding)


async def test_settlement_is_the_time_after_the_end(pool: asyncpg.Pool) -> None:
    scene = Scene()
    for ms in (-5, 100, 200, 90_000):
        scene.packet("alice", 1, 100, AT, taps(1), settles_after_ms=ms)
    scene.packet("alice", 1, 100, AT, taps(1), settles_after_ms=None)
    await written(pool, scene)
    finding = await asked(pool, "settlement")
    of_all = {row["part_of_packets"]: row["seconds"] for row in records(finding) if row["day"] == "all"}
    assert (of_all[0.25], of_all[0.5], of_all[1.0]) == (0.0, 0.1, 90.0)
    assert finding.rows[0][1:3] == (5, 1)
    assert [row[0] for row in finding.rows if row[0] != "all"] == ["2026-02-17"] * 2


@pytest.mark.long
async def test_each_asset_is_by_itself(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        await connection.execute(
            "WITH made AS (INSERT INTO assets VALUES ('POINTS', 0, 'points', 900, 1) RETURNING asset)"
            " INSERT INTO accounts (account_id, kind, asset) SELECT 900, 'issuer', asset FROM made"
        )
    money, points = Scene(), Scene(asset="POINTS", first_wallet=50_000)
    money.packet("alice", 10, 1_000, AT, taps(*range(10)))
    money.packet("alice", 10, 1_000, AT, taps(1), ends_at_ms=AT + 5)
    points.packet("alice", 10, 70_000, AT, taps(*range(8)), ends_at_ms=AT + 50)
    points.campaign("积分雨", AT, [(4, 400, taps(1), True)], 1_000_000)
    await written(pool, money, points)
    for name in STUDIES:
        both = [await asked(pool, name, asset=asset) for asset in (None, "CNY", "POINTS")]
        assert both[0] == both[1]
        assert both[0].rows != both[2].rows, name
    assert " POINTS" in (await asked(pool, "unclaimed", asset="POINTS")).said[Language.EN].sentences[0]
    with pytest.raises(OperatorError, match="The ledger has no asset GOLD; its currency is CNY"):
        await asked(pool, "storm", asset="GOLD")


@pytest.mark.parametrize(
    ("first", "last", "why"),
    [
        (DAY, DAY - timedelta(days=1), "to: must not be before the first day"),
        (DAY, DAY + timedelta(days=DAYS_MAX), f"to: must leave at most {DAYS_MAX} days; these are 401"),
        (date(1999, 12, 31), date(1999, 12, 31), "from: must be 2000-01-01 or later"),
        (today() + timedelta(days=1), today() + timedelta(days=1), "from: must be a day that has begun in China"),
        (date.max, date.max, "from: must be a day that has begun in China"),
    ],
)
def test_odd_days_are_refused(first: date, last: date, why: str) -> None:
    with pytest.raises(InvalidFieldsError, match=why):
        check_days(first, last)


async def test_four_hundred_days_up_to_now_can_be_looked_at(pool: asyncpg.Pool) -> None:
    found = await study(pool, today() - timedelta(days=DAYS_MAX - 1), today())
    assert [finding.name for finding in found.findings] == list(STUDIES)
    assert all(finding.is_empty for finding in found.findings)


async def test_a_question_that_takes_too_long_is_ended(pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.analysis.scope import SQL

    monkeypatch.setitem(SQL, "busiest", "SELECT pg_sleep(60), $1::bigint, $2::bigint, $3::text, $4::bigint, $5::bigint")
    with pytest.raises(OperatorError, match=r"Postgres took longer than 0.05 s for one question: ask for fewer days"):
        await study(pool, DAY, DAY, names=["storm"], statement_s=0.05)
    assert (await study(pool, DAY, DAY, names=["shares"])).findings[0].is_empty  # the pool goes on


async def test_it_cannot_write(pool: asyncpg.Pool) -> None:
    from engine.analysis.scope import reading

    async with reading(pool, DAY, DAY) as reader:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await reader.connection.execute("INSERT INTO labels VALUES ('x', 1, 'x', 1)")


async def test_a_picture_that_there_is_not_is_refused(pool: asyncpg.Pool) -> None:
    with pytest.raises(OperatorError, match="There is no picture moon"):
        await study(pool, DAY, DAY, names=["moon"])


@pytest.mark.long
async def test_the_same_ledger_gives_the_same_analysis_to_the_byte(pool: asyncpg.Pool) -> None:
    await written(pool, lively(DAY - timedelta(days=2), 3, 30, users=80))

    async def analysis() -> tuple[Study, list[bytes | None]]:
        found = await study(pool, DAY - timedelta(days=2), DAY)
        return found, [report.draw(finding, Language.EN).png for finding in found.findings[:4]]

    first, again = await analysis(), await analysis()
    assert first == again
    assert all(not finding.is_empty for finding in first[0].findings)


@pytest.mark.long
async def test_sentences_say_what_the_tables_have(pool: asyncpg.Pool) -> None:
    await written(pool, lively(DAY - timedelta(days=2), 3, 30, users=80))
    found = await study(pool, DAY - timedelta(days=2), DAY + timedelta(days=2))
    tables = {
        finding.name: list(csv.DictReader(io.StringIO(report.csv_of(finding).decode("utf-8-sig"))))
        for finding in found.findings
    }
    said = {
        (finding.name, language): " ".join((text.title, *text.sentences))
        for finding in found.findings
        for language, text in finding.said.items()
    }

    def whole(name: str, column: str) -> int:
        return round(sum(float(row[column]) for row in tables[name]))

    claims = sum(int(row["claims"]) for row in tables["activity"] if row["by"] == "hour")
    sold = {row["shares"]: int(row["sold_out"]) for row in tables["sold_out"]}
    expected = {
        "storm": [f"{whole('storm', 'packets_per_s') + whole('storm', 'campaigns_per_s'):,}"],
        "sold_out": [f"{sum(sold.values()):,}"],
        "shares": [f"{whole('shares', 'claims'):,}"],
        "luckiest": [f"{whole('luckiest', 'packets'):,}"],
        "activity": [f"{claims:,}"],
        "concentration": [f"{float(row['gini']):.2f}" for row in tables["concentration"]],
        "unclaimed": [f"{whole('unclaimed', 'packets'):,}", f"{whole('unclaimed', 'untouched'):,}"],
        "refunds": [f"{whole('refunds', 'refunds'):,}"],
        "campaigns": [f"{whole('campaigns', 'won'):,}", f"{whole('campaigns', 'shares'):,}"],
        "settlement": [f"{int(tables['settlement'][0]['packets']) - int(tables['settlement'][0]['waiting']):,}"],
    }
    assert set(expected) == set(STUDIES)
    for name, numbers in expected.items():
        for language in Language:
            for number in numbers:
                assert number in said[name, language], (name, language)
    assert claims == sum(int(row["claims"]) for row in tables["activity"] if row["by"] == "occasion")
