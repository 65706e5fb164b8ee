"""A repeat of what succeeded is answered as it was, whatever would refuse it today: for all that take the header."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import asyncpg
import httpx
import pytest

from api.dispatch import Operation
from api.routes import ROUTES
from engine.calendar.china_time import today
from engine.settings import Settings
from tests.support import asking
from tests.support.coupons import with_keys
from tests.support.front import Client, Json, new_key, open_front
from tests.support.paths import path_of
from tests.support.restartable_redis import RestartableRedis, redis_of_its_own
from tests.support.scenes import changed

pytestmark = pytest.mark.long

OF_A_COUPON = ("redeem_coupon_code", "redeem_coupon", "void_coupon", "transfer_coupon")
"""No limit is about these. tests/api/test_api_coupons.py repeats them."""
OF_COLLECTORS = ("give_card", "grant_card", "complete_card_set", "claim_card_prize", "offer_card")
"""What moves no money that a limit bounds: test_api_card_sets.py repeats it."""
WITH_KEY = [row for row in ROUTES if row.moves_money and row.name not in OF_A_COUPON + OF_COLLECTORS]
BODIES: dict[str, Json] = {
    "send_packet": {
        "total_fen": 90_000,
        "count": 2,
        "split": "equal",
        "ttl_s": 3_600,
        "greeting": "hello",
        "recipients": ["bob", "carol"],
        "label": "group",
        "ack": "memory",
    },
    "send_transfer": {"to": "bob", "amount_fen": 90_000, "arrives_after_s": 7_200, "note": "hello"},
    "deposit": {"amount_fen": 90_000},
    "make_campaign": asking.BODIES["make_campaign"]
    | {
        "waves": [
            {
                "starts_at_ms": asking.TOMORROW_MS,
                "seconds": 60,
                "prizes": [{"total_fen": 90_000, "count": 90, "split": "lucky"}],
            }
        ],
        "lanes": 1,
        "odds_millionths": 1_000_000,
    },
    "grant_wins": {"wins": 90},
    "make_fundraiser": asking.BODIES["make_fundraiser"] | {"story": "hello"},
    "give": {"amount_fen": 90_000, "message": "hello"},
    "match_gifts": {"percent": 100, "budget_fen": 90_000},
    "make_coupon_batch": asking.BODIES["make_coupon_batch"],
    "make_card_set": asking.BODIES["make_card_set"] | {"pool_fen": 90_000},
    "withdraw": {"amount_fen": 90_000, "bank_account": "6222020200112233", "payment_password": "135790"},
}
"""A request of each operation. A new one that takes the header needs one here."""
LOWEST = {
    "share_fen_max": 1,
    "festivals": "",
    "festival_share_fen_max": 1,
    "count_max": 1,
    "merchant_count_max": 1,
    "ttl_s_default": 1,
    "ttl_s_max": 1,
    "timed_ttl_s": 1,
    "greeting_length_max": 0,
    "recipients_max": 1,
    "ack": "ledger",
    "deposit_fen_max": 1,
    "transfer_fen_max": 1,
    "gift_fen_max": 1,
    "open_fundraisers_max": 0,
    "transfer_confirm_s": 1,
    "transfer_confirm_s_short": 1,
    "transfer_delay_s_short": 1,
    "transfer_delay_s_long": 1,
    "person_day_sent_fen_max": 1,
    "label_day_sent_fen_max": 1,
    "merchant_transaction_fen_max": 1,
    "merchant_day_sent_fen_max": 1,
    "withdrawal_free_fen": 0,
    "withdrawal_fee_fen_min": 10**9,
    "coupon_keys": None,
}
"""Every limit of the product at its least, and the fee beyond what anybody has.

What bounds every request, such as the size of a body, is none of them.
"""
LIMITED = [row for row in WITH_KEY if row.name != "grant_wins"]
"""Operations that a setting limits. Grants are limited by their campaign."""
_PROFILE = {"kind": "merchant", "addresses": ["192.0.2.0/24"], "transaction_fen_max": 1, "day_sent_fen_max": 1}


@dataclass(frozen=True, slots=True)
class World:
    """Two fronts on one ledger: as the settings were, and as they are later; and the Redis of both."""

    before: Client
    later: Client
    redis: RestartableRedis

    async def request(self, client: Client, row: Operation, key: dict[str, str]) -> httpx.Response:
        """Alice's request, or an operator's."""
        is_admins = row.access is not None and row.access.scopes == ("admin",)
        is_backends = row.access is not None and row.access.scopes == ("act",)
        headers = client.as_user("root", "admin") if is_admins else client.as_user("alice")
        if is_backends:
            headers = client.as_backend("alice")
        return await client.http.request(row.method, path_of(row, "0"), json=BODIES[row.name], headers=headers | key)

    async def put(self, path: str, body: Json, *, user: str, scope: str) -> None:
        """Change something."""
        answer = await self.before.http.put(path, json=body, headers=self.before.as_user(user, scope))
        assert answer.status_code == 200, answer.text


async def frozen(world: World) -> None:
    """Alice's account is frozen."""
    await world.put("/v1/accounts/alice/freeze", {"reason": "test"}, user="root", scope="admin")


async def another_profile(world: World) -> None:
    """Alice is a merchant now, elsewhere, and may send nearly nothing."""
    await world.put("/v1/accounts/alice/profile", _PROFILE, user="root", scope="admin")


async def another_password(world: World) -> None:
    """The payment password was changed."""
    body = {"password": "246802", "current_password": "135790"}
    await world.put("/v1/wallets/alice/payment-password", body, user="alice", scope="send")


async def no_redis(world: World) -> None:
    """Redis is away."""
    world.redis.kill()


CHANGES: list[Callable[[World], Awaitable[None]]] = [frozen, another_profile, another_password, no_redis]


async def all_of_it(world: World) -> None:
    """Everything at once."""
    for change in CHANGES:
        await change(world)


@pytest.fixture
async def world(settings: Settings, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A day on which a share may be larger, and the day after it; alice has money and a payment password.

    There is somebody's fundraiser, and who matches gifts to it is a merchant.
    """
    days = ",".join(f"{today() + timedelta(days=ahead):%m-%d}" for ahead in (0, 1))
    async with redis_of_its_own(tmp_path / "redis", has_log=True) as redis:
        before = with_keys(changed(settings, redis_url=redis.url, festivals=days))
        async with open_front(before) as client, open_front(changed(before, **LOWEST)) as later:
            world = World(client, later, redis)
            await client.deposit("alice", 1_000_000)
            await world.put("/v1/accounts/alice/profile", {"kind": "merchant"}, user="root", scope="admin")
            await world.put("/v1/wallets/alice/payment-password", {"password": "135790"}, user="alice", scope="send")
            campaign = asking.BODIES["make_campaign"] | {"wins_max": 100}
            made = await client.http.post("/v1/campaigns", json=campaign, headers=client.as_user("alice") | new_key())
            assert made.json()["campaign_id"] == "1"
            headers = client.as_user("org") | new_key()
            made = await client.http.post("/v1/fundraisers", json=BODIES["make_fundraiser"], headers=headers)
            assert made.json()["fundraiser_id"] == "1", made.text
            yield world


def as_it_was(answer: httpx.Response) -> Json:
    """What a repeat returns again. Whether a packet is open by now, it returns only if Redis is there to be asked."""
    assert answer.status_code == 201, answer.text
    body: Json = answer.json()
    if body.get("state") in ("open", "funded"):
        del body["state"]
    return body


@pytest.mark.parametrize("row", WITH_KEY, ids=lambda row: row.name)
async def test_whatever_would_refuse_it_today_a_repeat_is_answered_as_it_was(
    world: World, row: Operation, database_url: str
) -> None:
    key = new_key()
    first = await world.request(world.before, row, key)
    connection = await asyncpg.connect(database_url)
    try:
        moved = await connection.fetchval("SELECT count(*) FROM transfers")
        for change in CHANGES:  # one after another: each is one more reason to refuse it
            await change(world)
            again = await world.request(world.before, row, key)
            assert as_it_was(again) == as_it_was(first), change.__name__
            assert again.headers["idempotency-replayed"] == "true"
            assert await connection.fetchval("SELECT count(*) FROM transfers") == moved
    finally:
        await connection.close()


@pytest.mark.parametrize("row", WITH_KEY, ids=lambda row: row.name)
async def test_a_repeat_after_every_limit_was_lowered_is_answered_and_a_first_request_refused(
    world: World, row: Operation
) -> None:
    key = new_key()
    first = await world.request(world.before, row, key)
    again = await world.request(world.later, row, key)
    assert as_it_was(again) == as_it_was(first)
    fresh = await world.request(world.later, row, new_key())
    assert 400 <= fresh.status_code < 500, fresh.text
    await all_of_it(world)
    last = await world.request(world.later, row, key)
    assert as_it_was(last) == as_it_was(first)
    fresh = await world.request(world.later, row, new_key())
    assert 400 <= fresh.status_code < 600, fresh.text


@pytest.mark.parametrize("row", WITH_KEY, ids=lambda row: row.name)
async def test_another_body_under_the_key_is_told_so_before_any_rule(
    world: World, row: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new_key()
    as_it_was(await world.request(world.before, row, key))
    totals = ("total_fen", "amount_fen", "odds_millionths", "goal_fen", "budget_fen", "wins", "count", "pool_fen")
    total = next(name for name in totals if name in BODIES[row.name])
    monkeypatch.setitem(BODIES, row.name, {**BODIES[row.name], total: BODIES[row.name][total] - 1})
    await all_of_it(world)
    other = await world.request(world.later, row, key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize("row", LIMITED, ids=lambda row: row.name)
async def test_a_refusal_is_not_kept(world: World, row: Operation) -> None:
    key = new_key()
    refused = await world.request(world.later, row, key)
    assert 400 <= refused.status_code < 500, refused.text
    first = await world.request(world.before, row, key)
    assert as_it_was(first)
    assert "idempotency-replayed" not in first.headers


def test_each_operation_with_the_header_has_a_request_here() -> None:
    assert sorted(BODIES) == sorted(row.name for row in WITH_KEY)
