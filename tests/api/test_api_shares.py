"""A user's own share is read without claiming: at once, from Redis and from the ledger alike, and by nobody else."""

from collections.abc import AsyncIterator

import httpx
import pytest

from engine.engine import Engine
from engine.lanes import keys
from engine.lanes.clients import command
from engine.settings import Settings
from tests.support.asking import COUPON_BATCH, UNKNOWN
from tests.support.coupons import with_keys
from tests.support.front import Client, Json, new_key, open_front
from tests.support.scenes import persisting
from tests.support.waiting import wait_until


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_keys(settings)


@pytest.fixture
async def front(settings: Settings) -> AsyncIterator[Client]:
    async with open_front(settings) as client:
        yield client


async def ask(front: Client, packet_id: str, user: str, headers: dict[str, str]) -> httpx.Response:
    return await front.http.get(f"/v1/packets/{packet_id}/claims/{user}", headers=headers)


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def test_a_share_is_told_at_once_and_looking_claims_nothing(front: Client) -> None:
    packet_id, bob = await front.send("alice"), front.as_user("bob", "claim")
    for _ in range(2):
        assert code_of(await ask(front, packet_id, "bob", bob)) == (404, "unknown_claim")
    packet = (await front.http.get(f"/v1/packets/{packet_id}", headers=bob)).json()
    assert (packet["claimed_count"], packet["own_amount_fen"]) == (0, None)
    claimed = await front.claim(packet_id, "bob")  # no persister is at work
    assert (await ask(front, packet_id, "bob", bob)).json() == claimed | {"outcome": "already_claimed"}
    packet = (await front.http.get(f"/v1/packets/{packet_id}", headers=bob)).json()
    assert (packet["claimed_count"], packet["own_amount_fen"]) == (1, claimed["amount_fen"])
    assert packet["claimed_fen"] == claimed["amount_fen"]
    backend = (await front.http.get(f"/v1/packets/{packet_id}", headers=front.as_backend())).json()
    assert (backend["own_amount_fen"], backend["claimed_fen"]) == (None, None)


async def test_only_the_user_a_backend_for_them_and_admins_are_told(front: Client) -> None:
    packet_id = await front.send("alice", count=2, recipients=["bob", "carol"])
    claimed = await front.claim(packet_id, "bob")
    for headers in (front.as_user("bob"), front.as_backend("bob"), front.as_user("root", "admin")):
        assert (await ask(front, packet_id, "bob", headers)).json()["amount_fen"] == claimed["amount_fen"]
    told_nothing = await ask(front, packet_id, "carol", front.as_user("carol"))
    assert code_of(told_nothing) == (404, "unknown_claim")
    for headers in (front.as_user("carol"), front.as_user("alice"), front.as_backend(), front.as_backend("carol")):
        answer = await ask(front, packet_id, "bob", headers)
        assert (answer.status_code, answer.content) == (404, told_nothing.content)
    for packet in (packet_id, UNKNOWN):  # it is not for dave: he is not told that there is one
        assert code_of(await ask(front, packet, "dave", front.as_user("dave"))) == (404, "unknown_packet")
    assert code_of(await ask(front, packet_id, "a b", front.as_user("dave"))) == (422, "invalid_fields")


async def test_it_is_told_by_the_ledger_once_redis_has_dropped_the_packet(front: Client, settings: Settings) -> None:
    packet_id, bob = await front.send("alice", count=1), front.as_user("bob")
    claimed = await front.claim(packet_id, "bob")
    async with persisting(settings):

        async def is_settled() -> bool:
            packet = (await front.http.get(f"/v1/packets/{packet_id}", headers=bob)).json()
            assert packet["own_amount_fen"] == claimed["amount_fen"]
            return packet["settled_at_ms"] is not None

        await wait_until(is_settled, what="the settlement")
    redis = engine_of(front).redis
    await command(redis, "DEL", keys.packet(packet_id), keys.claims(packet_id))
    assert (await ask(front, packet_id, "bob", bob)).json()["amount_fen"] == claimed["amount_fen"]
    assert code_of(await ask(front, packet_id, "carol", front.as_user("carol"))) == (404, "unknown_claim")


async def test_a_coupon_is_told_as_with_the_claim_but_its_code_to_its_holder_alone(
    front: Client, settings: Settings
) -> None:
    mall, root = front.as_user("mall"), front.as_user("root", "admin")
    await front.http.put("/v1/accounts/mall/profile", json={"kind": "merchant"}, headers=root)
    made = await front.http.post("/v1/coupon-batches", json=COUPON_BATCH, headers=mall | new_key())
    terms: Json = {"total_fen": 1, "count": 1, "split": "equal", "ttl_s": 60}
    terms["asset"] = f"COUPON_{made.json()['batch_id']}"
    packet_id = (await front.http.post("/v1/packets", json=terms, headers=mall | new_key())).json()["packet_id"]
    async with persisting(settings):
        claimed = await front.claim(packet_id, "bob")
        assert claimed["coupon"]["code"] is not None
        own = (await ask(front, packet_id, "bob", front.as_user("bob"))).json()
        assert own["coupon"] == claimed["coupon"]
        seen = (await ask(front, packet_id, "bob", root)).json()
        assert seen["coupon"] == claimed["coupon"] | {"code": None}


def engine_of(front: Client) -> Engine:
    transport = front.http._transport
    assert isinstance(transport, httpx.ASGITransport)
    engine: Engine = transport.app.state.front.engine  # type: ignore[attr-defined]
    return engine
