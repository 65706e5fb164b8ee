"""Rate limits over real sockets: 429 with what a client needs to know, the same by both ways of a claim."""

import asyncio
import random

import orjson
import pytest
import uvloop
from pydantic import ValidationError

from api import limits as bounds
from engine.errors import OperatorError
from engine.settings import Settings
from tests.support.both_ways import Reply
from tests.support.front import Json, open_front
from tests.support.scenes import changed
from tests.support.served import World, open_world
from tests.support.wire import claim, request

LOOP_FACTORY = uvloop.new_event_loop
WAYS = pytest.mark.parametrize("query", ["", "?x=1"], ids=["short", "long"])


def assert_limited(reply: Reply, policy: str, quota: int, window_s: int = 60) -> None:
    headers = dict(reply.headers)
    problem = orjson.loads(reply.body)
    assert (reply.status, problem["code"]) == (429, "rate_limited")
    assert policy in problem["detail"]
    assert headers[b"ratelimit-policy"] == f'"{policy}";q={quota};w={window_s}'.encode()
    wait_s = int(headers[b"retry-after"])
    assert 1 <= wait_s <= window_s
    assert headers[b"ratelimit"] == f'"{policy}";r=0;t={wait_s}'.encode()


@WAYS
async def test_a_users_claims_are_limited(settings: Settings, query: str) -> None:
    async with open_world(changed(settings, claims_per_user_max=3)) as world:
        data = claim(world.open, world.bob, query=query)
        replies = [await world.served.ask_one(data) for _ in range(5)]
        assert [reply.status for reply in replies] == [200, 200, 200, 429, 429]
        assert_limited(replies[3], "claims-user", 3)
        assert (await world.served.ask_one(claim(world.sold_out, world.bob, query=query))).status == 429
        eve = world.served.authorized("eve")
        assert (await world.served.ask_one(claim(world.open, eve, query=query))).status == 200
        got = request(f"/v1/packets/{world.open}", world.bob, method="GET")
        assert (await world.served.ask_one(got)).status == 200
        assert world.served.front.limits.refused[bounds.USER] == 3


async def test_both_ways_spend_one_quota_and_refuse_with_the_same_bytes(settings: Settings) -> None:
    async with open_world(changed(settings, claims_per_user_max=4)) as world:
        ways = [claim(world.open, world.bob, query=query) for query in ("", "?x=1")]
        for _ in range(2):
            assert [(await world.served.ask_one(way)).status for way in ways] == [200, 200]
        short, long = [await world.served.ask_one(way) for way in ways]
        assert short == long
        assert_limited(short, "claims-user", 4)


@WAYS
async def test_a_backends_claims_count_for_the_user_it_names(settings: Settings, query: str) -> None:
    async with open_world(changed(settings, claims_per_user_max=1)) as world:
        for user in ("ada", "ben"):
            data = claim(world.open, world.backend, f"x-user-id: {user}", query=query)
            assert [(await world.served.ask_one(data)).status for _ in range(2)] == [200, 429]


async def results_of(world: World, claims: list[tuple[str, str]], *lines: str) -> list[Json]:
    """The result of each claim (packet, user) of a batch."""
    body = orjson.dumps({"claims": [{"packet_id": packet, "user_id": user} for packet, user in claims]})
    reply = await world.served.ask_one(request("/v1/claims", world.backend, *lines, body=body))
    assert reply.status == 200, reply
    results: list[Json] = orjson.loads(reply.body)["results"]
    assert [(result["packet_id"], result["user_id"]) for result in results] == claims
    return results


def codes(results: list[Json]) -> list[str]:
    return [result.get("outcome") or result["code"] for result in results]


async def test_the_claims_of_a_batch_count_for_the_users_they_name(settings: Settings) -> None:
    async with open_world(changed(settings, claims_per_user_max=1)) as world:
        results = await results_of(world, [(world.open, "ada")] * 200)
        assert codes(results) == ["claimed"] + ["rate_limited"] * 199
        assert world.served.front.limits.refused[bounds.USER] == 199
        assert set(results[1]) == {"packet_id", "user_id", "code", "detail", "retry_after_s"}
        assert 1 <= results[1]["retry_after_s"] <= 60
        assert "claims-user is 1 per 60 s" in results[1]["detail"]
        alone = await world.served.ask_one(claim(world.open, world.backend, "x-user-id: ada"))
        assert_limited(alone, "claims-user", 1)
        # What one claim spends, a batch finds spent; who has claims left gets them in the same batch.
        assert (await world.served.ask_one(claim(world.open, world.backend, "x-user-id: ben"))).status == 200
        mixed = [(world.open, user) for user in ("ben", "cid", "ada", "dan", "cid")]
        assert codes(await results_of(world, mixed)) == [
            *("rate_limited", "claimed", "rate_limited", "claimed", "rate_limited")
        ]


async def test_a_batch_with_nothing_to_decide_is_answered_all_the_same(settings: Settings) -> None:
    async with open_world(changed(settings, claims_per_user_max=1)) as world:
        assert codes(await results_of(world, [(world.sold_out, "ada")])) == ["sold_out"]
        assert codes(await results_of(world, [(world.sold_out, "ada"), (world.open, "ada")])) == ["rate_limited"] * 2


async def test_claims_of_a_batch_on_what_is_no_packet_count_too(settings: Settings) -> None:
    """As a single claim's do, which is counted before its path is looked at."""
    async with open_world(changed(settings, claims_per_user_max=1)) as world:
        claims = [("10", "ada"), (world.open, "ada"), (world.open, "ben"), ("10", "ben")]
        assert codes(await results_of(world, claims)) == [
            *("unknown_packet", "rate_limited", "claimed", "rate_limited")
        ]


async def test_a_batch_that_is_refused_whole_spends_nothing(settings: Settings) -> None:
    async with open_world(changed(settings, claims_per_user_max=1)) as world:
        items = [{"packet_id": world.open, "user_id": "ada"}, {"packet_id": world.open, "user_id": "not a user"}]
        body = orjson.dumps({"claims": items})
        assert (await world.served.ask_one(request("/v1/claims", world.backend, body=body))).status == 422
        assert codes(await results_of(world, [(world.open, "ada")])) == ["claimed"]


async def test_the_user_a_batch_is_sent_for_spends_a_request_and_no_claim(settings: Settings) -> None:
    async with open_world(changed(settings, claims_per_user_max=1, requests_per_user_max=2)) as world:
        for user in ("ada", "ben"):
            assert codes(await results_of(world, [(world.open, user)], "x-user-id: eve")) == ["claimed"]
        body = orjson.dumps({"claims": [{"packet_id": world.open, "user_id": "cid"}]})
        third = await world.served.ask_one(request("/v1/claims", world.backend, "x-user-id: eve", body=body))
        assert_limited(third, "requests-user", 2)
        assert codes(await results_of(world, [(world.open, "cid"), (world.sold_out, "eve")])) == [
            *("claimed", "sold_out")
        ]


async def test_a_batch_is_limited_as_its_claims_are_one_by_one(settings: Settings) -> None:
    chance = random.Random(20261128)
    async with open_world(changed(settings, claims_per_user_max=3)) as world:
        users = [chance.choice("abcdef") for _ in range(40)]
        together = codes(await results_of(world, [(world.open, user) for user in users]))
        alone = []
        for user in users:
            reply = await world.served.ask_one(claim(world.open, world.backend, f"x-user-id: {user}-alone"))
            alone.append(codes([orjson.loads(reply.body)])[0])
    assert together == alone
    assert set(alone) == {"claimed", "already_claimed", "rate_limited"}


async def test_what_is_limited_is_not_done(settings: Settings) -> None:
    async with open_front(changed(settings, requests_per_user_max=2)) as client:
        await client.deposit("alice", 1_000)  # by root
        body = {"total_fen": 100, "count": 1, "split": "lucky"}
        statuses = []
        for number in range(4):
            headers = client.as_user("alice") | {"idempotency-key": f"k{number}"}
            answer = await client.http.post("/v1/packets", json=body, headers=headers)
            statuses.append(answer.status_code)
        assert statuses == [201, 201, 429, 429]
        assert answer.headers["ratelimit-policy"] == '"requests-user";q=2;w=60'
        admin = client.as_user("root2", "admin")
        wallet = await client.http.get("/v1/wallets/alice", headers=admin)
        assert wallet.json()["balance_fen"] == 800


@WAYS
async def test_an_addresss_requests_are_limited_before_they_are_looked_at(settings: Settings, query: str) -> None:
    wanted = changed(settings, claims_per_address_max=2, requests_per_address_max=3)
    async with open_world(wanted) as world:
        data = claim(world.open, "authorization: Bearer forged", query=query)
        async with world.served.connected() as wire:
            replies = [await wire.ask(data) for _ in range(4)]
        assert [reply.status for reply in replies] == [401, 401, 429, 429]
        assert_limited(replies[3], "claims-address", 2)
        wallet = request("/v1/wallets/bob", world.bob, method="GET")
        async with world.served.connected() as wire:
            replies = [await wire.ask(wallet) for _ in range(5)]
        assert [reply.status for reply in replies] == [200, 200, 200, 429, 429]
        assert_limited(replies[3], "requests-address", 3)
        for path in ("/livez", "/readyz", "/metrics"):
            async with world.served.connected() as wire:
                assert [(await wire.ask(request(path, method="GET"))).status for _ in range(5)] == [200] * 5
        assert world.served.front.limits.refused[bounds.ADDRESS] >= 4


async def test_a_grab_counts_as_a_claim(settings: Settings) -> None:
    wanted = changed(settings, claims_per_address_max=2, claims_per_user_max=5, requests_per_address_max=50)
    async with open_world(wanted) as world, world.served.connected() as wire:
        grab = request("/v1/campaigns/7/grabs", world.bob)
        replies = [await wire.ask(grab) for _ in range(3)]
        assert [reply.status for reply in replies] == [404, 404, 429]
        assert_limited(replies[2], "claims-address", 2)


async def test_a_request_with_a_body_is_limited_and_its_connection_goes_on(settings: Settings) -> None:
    async with open_world(changed(settings, requests_per_address_max=1)) as world:
        batch = orjson.dumps({"claims": [{"packet_id": world.sold_out, "user_id": "bob"}]})
        data = request("/v1/claims", world.backend, body=batch)
        async with world.served.connected() as wire:
            assert [(await wire.ask(data)).status for _ in range(3)] == [200, 429, 429]
            await wire.send(data + data)
            assert [(await wire.answer()).status for _ in range(2)] == [429, 429]
            assert (await wire.ask(request("/livez", method="GET"))).status == 200


async def test_a_trusted_proxy_says_whose_request_it_is(settings: Settings) -> None:
    wanted = changed(settings, claims_per_address_max=1, trusted_proxies="127.0.0.0/8, ::1", address_header="X-Real-IP")
    async with open_world(wanted) as world:

        async def status(*lines: str) -> int:
            async with world.served.connected() as wire:
                return (await wire.ask(claim(world.open, world.bob, *lines))).status

        assert [await status(f"x-real-ip: 203.0.113.{number}") for number in (1, 2, 1, 3, 2)] == [
            *(200, 200, 429, 200, 429)
        ]
        assert [await status(), await status("x-forwarded-for: 203.0.113.9")] == [200, 429]


async def test_limits_that_are_off_cost_nothing(settings: Settings) -> None:
    async with open_world(settings) as world:
        assert world.served.front.limits.users is None
        assert world.served.front.limits.by_address is None
        data = claim(world.open, world.bob)
        async with world.served.connected() as wire:
            assert wire.there._gate is None
            assert {(await wire.ask(data)).status for _ in range(200)} == {200}
        await asyncio.sleep(0)


@pytest.mark.parametrize("text", ["nonsense", "10.0.0.1/8", "10.0.0.0/33", "1.2.3"])
def test_a_proxy_that_is_no_network_is_named_at_the_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    with pytest.raises(ValidationError):
        changed(settings, trusted_proxies=text)
    monkeypatch.setenv("HONGBAO_TRUSTED_PROXIES", text)
    with pytest.raises(OperatorError, match="HONGBAO_TRUSTED_PROXIES cannot be used"):
        Settings.load()
