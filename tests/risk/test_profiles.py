"""Kinds of accounts, allow-lists, and limits by transaction, day and group: also by many sendings at once."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from uuid import uuid4

import pytest

from engine.calendar.china_time import begin_ms, day_of
from engine.engine import Engine
from engine.errors import AddressNotAllowedError, HongbaoError, InvalidFieldsError, LimitExceededError
from engine.ledger.money import lock_wallet
from engine.packets.terms import terms_from
from engine.records import SplitKind
from engine.risk import profiles
from engine.risk.limits import AccountKind, day_ms, is_in, limits_of
from engine.settings import Settings
from tests.support.days import whole_day
from tests.support.front import Client, Json, new_key, open_front
from tests.support.scenes import changed, fund, waits_for_a_lock
from tests.support.waiting import wait_until

DAY_MS = 86_400_000


@pytest.fixture(autouse=True)
async def _day() -> None:
    """What is sent is counted by the day: each test has one to itself."""
    await whole_day()


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with open_front(settings) as client:
        yield client


async def put(client: Client, path: str, body: Json) -> Json:
    answer = await client.http.put(path, json=body, headers=client.as_user("root", "admin"))
    assert answer.status_code == 200, answer.text
    answered: Json = answer.json()
    return answered


async def sending(client: Client, user: str, total_fen: int, **more: object) -> Json:
    body = {"total_fen": total_fen, "count": 1, "split": "lucky", **more}
    answer = await client.http.post("/v1/packets", json=body, headers=client.as_user(user) | new_key())
    answered: Json = answer.json()
    return {"status": answer.status_code} | answered


async def send(engine: Engine, sender: str, total_fen: int, *, address: str = "", label: str | None = None) -> None:
    terms = terms_from(settings=engine.settings, total_fen=total_fen, count=1, split=SplitKind.LUCKY, label=label)
    await engine.packets.send(sender, terms, address=address, idempotency_key=uuid4().hex, request_hash=b"send")


async def test_a_person_sends_so_much_a_day_and_no_more(client: Client) -> None:
    await client.deposit("alice", 10_000)
    await put(client, "/v1/accounts/alice/profile", {"kind": "person", "day_sent_fen_max": 500})
    assert (await sending(client, "alice", 300))["status"] == 201
    refused = await sending(client, "alice", 201)
    assert (refused["status"], refused["code"]) == (409, "limit_exceeded")
    assert (refused["limit"], refused["limit_fen"], refused["left_fen"]) == ("day_sent_fen_max", 500, 200)
    assert (await sending(client, "alice", 200))["status"] == 201
    assert (await sending(client, "alice", 1))["left_fen"] == 0
    wallet = await client.http.get("/v1/wallets/alice", headers=client.as_user("alice"))
    assert wallet.json()["balance_fen"] == 9_500


async def test_a_limit_set_in_the_middle_of_a_day_holds_for_all_of_it(client: Client) -> None:
    await client.deposit("alice", 10_000)
    assert (await sending(client, "alice", 400, label="team"))["status"] == 201
    await put(client, "/v1/accounts/alice/profile", {"kind": "person", "day_sent_fen_max": 500})
    assert (await sending(client, "alice", 101))["left_fen"] == 100
    await put(client, "/v1/accounts/alice/profile", {"kind": "person", "day_sent_fen_max": 0})  # none
    assert (await sending(client, "alice", 600))["status"] == 201
    await put(client, "/v1/accounts/alice/profile", {"kind": "person", "day_sent_fen_max": 1_100})
    assert (await sending(client, "alice", 101))["left_fen"] == 100
    await put(client, "/v1/accounts/alice/profile", {"kind": "person"})
    await put(client, "/v1/labels/team", {"day_sent_fen_max": 450})
    assert (await sending(client, "alice", 51, label="team"))["left_fen"] == 50
    assert (await sending(client, "alice", 50, label="team"))["status"] == 201


async def test_a_day_ends_at_midnight_in_china(engine: Engine) -> None:
    begins_ms, ends_ms = day_ms(1_700_000_000_000)
    assert ends_ms - begins_ms == DAY_MS
    assert begins_ms % DAY_MS == 16 * 3_600_000  # which is four in the afternoon by UTC, the day before
    assert begin_ms(day_of(ends_ms)) == ends_ms
    assert day_of(ends_ms - 1) != day_of(ends_ms)
    await fund(engine, "alice", 1_000)
    await engine.profiles.put("alice", AccountKind.PERSON, [], {"day_sent_fen_max": 100}, changed_by="root")
    await send(engine, "alice", 100)
    await engine.pool.execute("UPDATE day_totals SET day = day - 1")  # that was yesterday
    await engine.pool.execute("UPDATE packets SET created_at_ms = created_at_ms - $1", DAY_MS)
    await send(engine, "alice", 100)
    with pytest.raises(LimitExceededError):
        await send(engine, "alice", 1)


@pytest.mark.parametrize("by_label", [False, True])
async def test_sendings_at_once_never_pass_a_limit(engine: Engine, by_label: bool) -> None:
    """Each is within the limit by itself. What is let through is as much as fits, to the fen."""
    senders = [f"user{number}" for number in range(5)] if by_label else ["alice"]
    for sender in senders:
        await fund(engine, sender, 10_000)
    if by_label:
        await engine.profiles.put_label("team", 1_000, changed_by="root")
    else:
        await engine.profiles.put("alice", AccountKind.PERSON, [], {"day_sent_fen_max": 1_000}, changed_by="root")

    async def one(number: int) -> int:
        try:
            await send(engine, senders[number % len(senders)], 70, label="team" if by_label else None)
        except LimitExceededError as error:
            left.add(error.left_fen)
            return 0
        return 70

    left: set[int] = set()
    went = sum(await asyncio.gather(*map(one, range(40))))
    assert (went, left) == (980, {20})
    assert await engine.pool.fetchval("SELECT sum(total_fen) FROM packets") == went
    assert await engine.pool.fetchval("SELECT sent_fen FROM day_totals") == went


@pytest.mark.long
async def test_limits_changed_while_money_is_sent_hold_from_their_answer_on(engine: Engine) -> None:
    await fund(engine, "alice", 100_000)
    done = asyncio.Event()

    async def keep_sending() -> None:
        while not done.is_set():
            try:
                await send(engine, "alice", 10)
            except LimitExceededError:
                await asyncio.sleep(0)

    tasks = [asyncio.create_task(keep_sending()) for _ in range(3)]
    limits = [0, 300, 0, 600, 900, 0, 1_200]
    try:
        for before, limit in pairwise(limits):
            await engine.profiles.put("alice", AccountKind.PERSON, [], {"day_sent_fen_max": limit}, changed_by="root")
            sent_fen = await engine.pool.fetchval("SELECT coalesce(sum(total_fen), 0)::bigint FROM packets")
            for _ in range(20):
                try:
                    await send(engine, "alice", 10)
                except LimitExceededError:
                    break
            now_fen = await engine.pool.fetchval("SELECT coalesce(sum(total_fen), 0)::bigint FROM packets")
            # What was under way waited for the change, or the change for it.
            assert limit == 0 or now_fen <= max(limit, sent_fen), (before, limit)
    finally:
        done.set()
        await asyncio.gather(*tasks)


async def test_a_sending_that_waited_while_the_limits_were_changed_is_held_to_the_new_ones(engine: Engine) -> None:
    await fund(engine, "alice", 1_000)
    terms = terms_from(settings=engine.settings, total_fen=100, count=1, split=SplitKind.EQUAL)
    async with engine.pool.acquire() as connection, connection.transaction():
        await lock_wallet(connection, "alice")
        sending = asyncio.create_task(
            engine.packets.send("alice", terms, idempotency_key=uuid4().hex, request_hash=b"send")
        )
        await wait_until(lambda: waits_for_a_lock(engine), what="the sending waiting for the wallet")
        values: tuple[object, ...] = ("alice", AccountKind.PERSON, [], None, 99, None, "root", 0)
        await connection.execute(profiles.SQL["put"], *values)
    with pytest.raises(LimitExceededError):
        await sending


async def test_what_is_not_paid_for_is_not_counted(engine: Engine) -> None:
    await fund(engine, "alice", 100)
    await engine.profiles.put("alice", AccountKind.PERSON, [], {"day_sent_fen_max": 1_000}, changed_by="root")
    with pytest.raises(HongbaoError, match="holds less"):
        await send(engine, "alice", 500)
    await send(engine, "alice", 100)
    assert await engine.pool.fetchval("SELECT sent_fen FROM day_totals") == 100


async def test_a_repeat_is_counted_once(client: Client) -> None:
    await client.deposit("alice", 1_000)
    await put(client, "/v1/accounts/alice/profile", {"kind": "person", "day_sent_fen_max": 100})
    headers, body = client.as_user("alice") | new_key(), {"total_fen": 100, "count": 1, "split": "lucky"}
    answers = [await client.http.post("/v1/packets", json=body, headers=headers) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert len({answer.json()["packet_id"] for answer in answers}) == 1


async def test_a_merchant_has_a_limit_a_transaction_and_a_day(settings: Settings) -> None:
    settings = changed(settings, merchant_transaction_fen_max=1_000, merchant_day_sent_fen_max=2_500)
    async with open_front(settings) as client:
        await client.deposit("shop", 100_000)
        assert (await sending(client, "shop", 5_000))["status"] == 201  # not a merchant yet
        profile = await put(client, "/v1/accounts/shop/profile", {"kind": "merchant", "day_sent_fen_max": 8_000})
        assert profile["limits"] == {
            "transaction_fen_max": 1_000,
            "day_sent_fen_max": 8_000,
            "day_received_fen_max": 0,
        }
        refused = await sending(client, "shop", 1_001)
        assert (refused["limit"], refused["limit_fen"], refused["left_fen"]) == ("transaction_fen_max", 1_000, 1_000)
        assert [(await sending(client, "shop", 1_000))["status"] for _ in range(4)] == [201, 201, 201, 409]
        await put(client, "/v1/accounts/shop/profile", {"kind": "merchant"})
        assert (await sending(client, "shop", 1))["limit_fen"] == 2_500


async def test_a_merchant_sends_from_its_own_networks_only(settings: Settings) -> None:
    settings = changed(settings, trusted_proxies="127.0.0.1")
    async with open_front(settings) as client:
        await client.deposit("shop", 10_000)
        networks = ["192.0.2.0/24", "2001:db8::7", "198.51.100.9"]
        profile = await put(client, "/v1/accounts/shop/profile", {"kind": "merchant", "addresses": networks})
        assert profile["addresses"] == ["192.0.2.0/24", "2001:db8::7/128", "198.51.100.9/32"]
        body = {"total_fen": 10, "count": 1, "split": "lucky"}
        wanted = {
            "192.0.2.200": 201,
            "::ffff:192.0.2.1": 201,
            "2001:db8::7": 201,
            "198.51.100.9": 201,
            "2001:db8::8": 403,
            "198.51.100.10": 403,
            "203.0.113.5": 403,
            "192.0.2.1, 203.0.113.5": 403,  # what is before the last stranger anybody could have written
        }
        for address, status in wanted.items():
            headers = client.as_user("shop") | new_key() | {"x-forwarded-for": address}
            answer = await client.http.post("/v1/packets", json=body, headers=headers)
            assert answer.status_code == status, (address, answer.text)
            assert status == 201 or answer.json()["code"] == "address_not_allowed"
        assert (await sending(client, "shop", 10))["code"] == "address_not_allowed"  # the proxy itself


async def test_who_sends_from_nobody_knows_where_is_not_on_a_list(engine: Engine) -> None:
    await fund(engine, "shop", 100)
    await engine.profiles.put("shop", AccountKind.MERCHANT, ["0.0.0.0/0", "::/0"], {}, changed_by="root")
    with pytest.raises(AddressNotAllowedError):
        await send(engine, "shop", 1)
    await send(engine, "shop", 1, address="127.0.0.1")
    assert not is_in("", ["0.0.0.0/0"])
    assert not is_in("unix:", ["0.0.0.0/0"])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "bank"}, "kind"),
        ({}, "kind"),
        ({"kind": "person", "addresses": ["192.0.2.1"]}, "addresses"),
        ({"kind": "merchant", "addresses": ["192.0.2.1/24"]}, "addresses[0]"),
        ({"kind": "merchant", "addresses": ["::1", "example.org"]}, "addresses[1]"),
        ({"kind": "merchant", "addresses": ["::1"] * 101}, "addresses"),
        ({"kind": "person", "day_sent_fen_max": -1}, "day_sent_fen_max"),
        ({"kind": "person", "day_sent_fen_max": True}, "day_sent_fen_max"),
        ({"kind": "person", "limit": 1}, "limit"),
    ],
)
async def test_a_profile_that_says_nonsense_is_refused(client: Client, body: Json, field: str) -> None:
    headers = client.as_user("root", "admin")
    answer = await client.http.put("/v1/accounts/alice/profile", json=body, headers=headers)
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    found = await client.http.get("/v1/accounts/alice", headers=headers)
    assert found.json()["profile"]["changed_by"] is None


async def test_a_label_that_is_none_is_refused(client: Client) -> None:
    headers = client.as_user("root", "admin")
    answer = await client.http.put("/v1/labels/a b", json={"day_sent_fen_max": 1}, headers=headers)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "label")
    answer = await client.http.put("/v1/labels/team", json={}, headers=headers)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "day_sent_fen_max")


async def test_a_groups_limit_is_its_own_or_the_settings(settings: Settings) -> None:
    async with open_front(changed(settings, label_day_sent_fen_max=100)) as client:
        await client.deposit("alice", 1_000)
        assert (await sending(client, "alice", 101, label="team"))["limit"] == "label_day_sent_fen_max"
        assert (await sending(client, "alice", 101))["status"] == 201  # to no group
        assert (await put(client, "/v1/labels/team", {"day_sent_fen_max": 0}))["limit_fen"] == 0
        assert (await sending(client, "alice", 101, label="team"))["status"] == 201
        told = await put(client, "/v1/labels/team", {"day_sent_fen_max": None})
        assert (told["limit_fen"], told["changed_by"]) == (100, "root")
        assert (await sending(client, "alice", 1, label="team"))["left_fen"] == 0
        assert (await sending(client, "alice", 1, label="others"))["status"] == 201


def test_limits_are_the_accounts_own_or_the_settings_for_its_kind() -> None:
    settings = Settings.model_construct(
        person_day_sent_fen_max=1, person_day_received_fen_max=2, merchant_transaction_fen_max=3
    )
    person, merchant = limits_of(settings, AccountKind.PERSON), limits_of(settings, AccountKind.MERCHANT)
    assert (person.transaction_fen_max, person.day_sent_fen_max, person.day_received_fen_max) == (0, 1, 2)
    assert (merchant.transaction_fen_max, merchant.day_sent_fen_max, merchant.day_received_fen_max) == (3, 0, 0)
    assert limits_of(settings, AccountKind.PERSON, day_sent_fen_max=0).day_sent_fen_max == 0


async def test_a_person_sends_to_a_hundred_hands_a_merchant_to_more(settings: Settings) -> None:
    by_default = Settings.model_fields["count_max"].default, Settings.model_fields["merchant_count_max"].default
    assert by_default == (100, 1_000_000)
    async with open_front(changed(settings, count_max=100, merchant_count_max=150)) as client:
        await client.deposit("alice", 10_000)
        assert (await sending(client, "alice", 1_000, count=100))["status"] == 201
        refused = await sending(client, "alice", 1_000, count=101)
        assert (refused["status"], refused["errors"]) == (
            422,
            [{"field": "count", "message": "must be at most 100"}],
        )
        await put(client, "/v1/accounts/alice/profile", {"kind": "merchant"})
        assert (await sending(client, "alice", 1_000, count=150))["status"] == 201
        refused = await sending(client, "alice", 1_000, count=151)
        assert refused["errors"] == [{"field": "count", "message": "must be at most 150"}]


async def test_the_bound_of_persons_is_looked_at_where_there_is_no_front(settings: Settings) -> None:
    async with Engine.open(changed(settings, count_max=100)) as engine:
        await fund(engine, "alice", 1_000)
        terms = terms_from(settings=engine.settings, total_fen=101, count=101, split=SplitKind.LUCKY)
        with pytest.raises(InvalidFieldsError, match="count"):
            await engine.packets.send("alice", terms, idempotency_key="once", request_hash=b"send")
        assert (await engine.wallets.get("alice")).balance_fen == 1_000


async def test_a_limit_that_is_set_meanwhile_counts_every_sending(engine: Engine) -> None:
    """Whatever is first, the limit or a sending: what is counted is what was sent."""
    for number in range(12):
        await fund(engine, f"user{number}", 10_000)

    async def send_to(label: str, number: int) -> None:
        terms = terms_from(settings=engine.settings, total_fen=10, count=1, split=SplitKind.EQUAL, label=label)
        await engine.packets.send(f"user{number}", terms, idempotency_key=f"{label}-{number}", request_hash=b"send")

    for label in ("one", "two", "three", "four"):
        limiting = engine.profiles.put_label(label, 100_000, changed_by="root")
        await asyncio.gather(*(send_to(label, number) for number in range(6)), limiting)
        await asyncio.gather(*(send_to(label, number) for number in range(6, 12)))
        counted = await engine.pool.fetchval("SELECT sent_fen FROM day_totals WHERE subject = $1", f"label:{label}")
        assert counted == 120
