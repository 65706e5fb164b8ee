"""Suggestions from a real ledger: what was sent before, limits, freezes, and nothing about a group's members."""

import json
from collections.abc import AsyncIterator
from datetime import date

import pytest

from engine.calendar.china_time import begin_ms
from engine.engine import Engine
from engine.packets.suggesting import LOOKED_AT_MAX, Suggested
from engine.packets.suggestions import ReasonCode
from engine.records import SplitKind
from engine.settings import Settings
from tests.support.days import whole_day
from tests.support.front import Client, Json, new_key, open_front
from tests.support.scenes import changed, fund, persisting, send
from tests.support.waiting import wait_until

NOON_MS = 12 * 3_600_000
SPRING, ORDINARY = date(2026, 2, 17), date(2026, 3, 11)
PATH = "/v1/users/alice/suggestions"


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    await whole_day()  # limits and suggestions are of one day
    async with open_front(settings) as client:
        yield client


async def asked(client: Client, user: str = "alice", **query: object) -> Json:
    answer = await client.http.get(
        f"/v1/users/{user}/suggestions",
        params=query,  # type: ignore[arg-type]
        headers=client.as_user(user),
    )
    assert answer.status_code == 200, answer.text
    answered: Json = answer.json()
    return answered


async def on(
    engine: Engine, day: date, user: str = "alice", *, label: str | None = None, people: int | None = None
) -> Suggested:
    return await engine.suggestions.of(user, label=label, people=people, at_ms=begin_ms(day) + NOON_MS)


def codes(suggested: Suggested) -> set[ReasonCode]:
    return {reason.code for suggestion in suggested.suggestions for reason in suggestion.reasons}


async def test_each_is_sent_as_it_stands(client: Client) -> None:
    await client.deposit("alice", 10_000_000)
    for query in ({}, {"label": "team"}, {"label": "team", "count": 12}, {"count": 1}, {"count": 68}):
        answered = await asked(client, "alice", **query)
        assert len(answered["suggestions"]) == 5
        for suggestion in answered["suggestions"]:
            assert suggestion["affordable"]
            body = {name: suggestion[name] for name in ("total_fen", "count", "split", "min_fen", "greeting")}
            sent = await client.http.post("/v1/packets", json=body, headers=client.as_user("alice") | new_key())
            assert sent.status_code == 201, sent.text


async def test_the_day_is_named(engine: Engine) -> None:
    suggested = await on(engine, SPRING, people=10)
    assert (suggested.day, suggested.occasion) == (SPRING, "spring_festival")
    assert [reason.text for reason in suggested.reasons] == ["Today is the Spring Festival (春节)."]
    assert suggested.suggestions[0].greeting == "恭喜发财，大吉大利"
    ordinary = await on(engine, ORDINARY)
    assert (ordinary.occasion, ordinary.reasons[0].code) == (None, ReasonCode.ORDINARY_DAY)


async def test_the_same_question_has_the_same_answer(engine: Engine) -> None:
    await send(engine, total_fen=500, count=5)
    assert await on(engine, SPRING, label="team") == await on(engine, SPRING, label="team")


async def test_what_the_user_usually_sends(engine: Engine) -> None:
    for total_fen in (3_000, 3_400, 30_000):
        await send(engine, total_fen=total_fen, count=2, split=SplitKind.EQUAL)
    first, *_ = (await on(engine, ORDINARY)).suggestions
    assert (first.total_fen, first.count, first.split) == (2 * 1_680, 2, SplitKind.EQUAL)
    assert ReasonCode.SENT_BEFORE in {reason.code for reason in first.reasons}


async def test_transfers_and_what_was_taken_back_tell_nothing(settings: Settings) -> None:
    async with open_front(settings) as client, persisting(settings):
        taken_back = await client.send("alice", total_fen=7_000, count=7)
        assert "sent_before" in json.dumps(await asked(client))
        alice = client.as_user("alice")
        answer = await client.http.post(f"/v1/packets/{taken_back}/retraction", headers=alice)
        assert answer.status_code == 200, answer.text
        body = {"to": "bob", "amount_fen": 700}
        await client.deposit("alice", 700)
        answer = await client.http.post("/v1/transfers", json=body, headers=alice | new_key())
        assert answer.status_code == 201, answer.text

        async def is_forgotten() -> bool:
            return "sent_before" not in json.dumps(await asked(client))

        await wait_until(is_forgotten, timeout_s=20, what="the retraction being in the ledger")


async def test_only_the_newest_are_looked_at(engine: Engine) -> None:
    for _ in range(3):
        await send(engine, total_fen=20_000, count=1)
    for _ in range(LOOKED_AT_MAX):
        await send(engine, total_fen=600, count=1)
    first, *_ = (await on(engine, ORDINARY)).suggestions
    assert first.total_fen == 600


async def test_of_a_group_only_what_is_usual_among_three_others_is_told(engine: Engine) -> None:
    for sender, total_fen in (("bob", 1_230), ("bob", 1_230), ("carol", 6_310), ("alice", 8_000)):
        await send(engine, sender, total_fen=total_fen, count=1, label="team")
    assert ReasonCode.GROUP_SENT_BEFORE not in codes(await on(engine, ORDINARY, label="team"))
    await send(engine, "dave", total_fen=19_990, count=1, label="team")
    suggested = await on(engine, ORDINARY, "alice", label="team")
    assert ReasonCode.GROUP_SENT_BEFORE in codes(suggested)
    told = repr(suggested)
    for secret in ("bob", "carol", "dave", "6310", "63.10", "1230", "12.30", "19990", "199.90"):
        assert secret not in told
    assert 6_600 in [suggestion.total_fen for suggestion in suggested.suggestions]
    assert ReasonCode.GROUP_SENT_BEFORE not in codes(await on(engine, ORDINARY, "alice", label="other"))
    assert ReasonCode.GROUP_SENT_BEFORE not in codes(await on(engine, ORDINARY, "alice"))


async def test_who_sends_most_does_not_decide(engine: Engine) -> None:
    for _ in range(20):
        await send(engine, "bob", total_fen=20_000, count=1, label="team")
    for sender in ("carol", "dave"):
        await send(engine, sender, total_fen=600, count=1, label="team")
    first, *_ = (await on(engine, ORDINARY, "erin", label="team")).suggestions
    assert first.total_fen == 600


async def test_limits_are_those_of_the_sender_and_the_group(client: Client) -> None:
    root = client.as_user("root", "admin")
    await client.deposit("alice", 100_000)
    profile = {"kind": "person", "transaction_fen_max": 5_000, "day_sent_fen_max": 6_000}
    assert (await client.http.put("/v1/accounts/alice/profile", json=profile, headers=root)).status_code == 200
    assert (await client.http.put("/v1/labels/team", json={"day_sent_fen_max": 900}, headers=root)).status_code == 200

    async def most(**query: object) -> int:
        totals = [suggestion["total_fen"] for suggestion in (await asked(client, "alice", **query))["suggestions"]]
        return max(totals, default=0)

    assert 1_000 < await most() <= 5_000
    assert 0 < await most(label="team") <= 900
    await client.send("alice", total_fen=5_000)
    assert 0 < await most() <= 1_000
    await client.send("bob", total_fen=810, label="team")
    told = json.dumps(await asked(client, label="team"))
    assert "0.90" not in told, "what is left for a group shows what others send"
    assert 0 < await most(label="team") <= 90
    await client.send("alice", total_fen=90, label="team")
    await client.send("alice", total_fen=800)
    assert 0 < await most() <= 100
    answered = await asked(client, label="team")
    assert answered["suggestions"] == []
    assert answered["reasons"][-1]["code"] == "nothing_fits"


async def test_a_merchant_has_more_shares(settings: Settings) -> None:
    async with open_front(changed(settings, count_max=100)) as client:
        root = client.as_user("root", "admin")
        await client.deposit("alice", 1)
        assert {one["count"] for one in (await asked(client, count=5_000))["suggestions"]} == {100}
        put = await client.http.put("/v1/accounts/alice/profile", json={"kind": "merchant"}, headers=root)
        assert put.status_code == 200
        assert {one["count"] for one in (await asked(client, count=5_000))["suggestions"]} == {5_000}


async def test_nobody_is_led_into_a_freeze(settings: Settings) -> None:
    async with Engine.open(changed(settings, freeze_large_fen=1_000)) as engine:
        await fund(engine, "alice", 10_000)
        assert all(one.total_fen < 1_000 for one in (await on(engine, SPRING)).suggestions)


async def test_who_cannot_send_is_suggested_nothing(client: Client) -> None:
    root = client.as_user("root", "admin")
    await client.deposit("alice", 1_000)
    frozen = await client.http.put(
        "/v1/accounts/alice/freeze", json={"reason": "odd", "scope": "sending"}, headers=root
    )
    assert frozen.status_code == 200
    answered = await asked(client)
    assert answered["suggestions"] == []
    assert answered["reasons"][-1] == {"code": "cannot_send", "text": "This account cannot send now."}


async def test_who_has_no_wallet_sees_what_it_would_take(client: Client) -> None:
    answered = await asked(client)
    assert len(answered["suggestions"]) == 5
    assert not any(suggestion["affordable"] for suggestion in answered["suggestions"])


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ({"count": "0"}, {"count"}),
        ({"count": "-1"}, {"count"}),
        ({"count": "1.0"}, {"count"}),
        ({"count": "x"}, {"count"}),
        ({"count": ""}, {"count"}),
        ({"count": "10000001"}, {"count"}),
        ({"count": "9" * 400}, {"count"}),
        ({"count": "４"}, {"count"}),
        ({"label": ""}, {"label"}),
        ({"label": "a b"}, {"label"}),
        ({"label": "a" * 65}, {"label"}),
        ({"label": "家"}, {"label"}),
        ({"day": "2026-02-17"}, {"day"}),
        ({"label": ".", "count": "no", "x": "1"}, {"label", "count", "x"}),
    ],
)
async def test_a_bad_query_is_named(client: Client, query: dict[str, str], fields: set[str]) -> None:
    answer = await client.http.get(PATH, params=query, headers=client.as_user("alice"))
    assert answer.status_code == 422
    assert {error["field"] for error in answer.json()["errors"]} == fields


async def test_a_question_reads_few_rows(engine: Engine) -> None:
    """By the indexes on a sender's and a label's packets, newest first: not by sorting all that they ever sent."""
    from engine.packets.suggesting import SQL

    for query, values in ((SQL["own"], ("alice", 50)), (SQL["of_group"], ("team", 50, "alice", 3))):
        async with engine.pool.acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL enable_seqscan = off")
            await connection.execute("SET LOCAL enable_bitmapscan = off")
            plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {query}", *values))
        assert "Index Scan" in plan, plan
        assert "packets_by_sender" in plan or "packets_of_label" in plan, plan
