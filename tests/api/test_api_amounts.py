"""Who sees the amounts of a packet: while it is open its sender, who has a share, and admins; everybody afterwards."""

from collections.abc import AsyncIterator

import pytest

from engine.engine import Engine
from engine.lanes.replies import CloseReason
from engine.packets import views
from engine.settings import Settings
from tests.support.front import Client, Json, open_front
from tests.support.scenes import caught_up, let_time_run_out, persisting
from tests.support.waiting import wait_until

HIDDEN = ("claimed_fen", "remaining_fen", "luckiest")


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with open_front(settings) as client:
        yield client


async def look(client: Client, packet_id: str, headers: dict[str, str]) -> tuple[Json, list[Json]]:
    """A packet, without what is each viewer's own, and its claims."""
    view = await client.http.get(f"/v1/packets/{packet_id}", headers=headers)
    page = await client.http.get(f"/v1/packets/{packet_id}/claims", headers=headers)
    assert (view.status_code, page.status_code) == (200, 200)
    seen: Json = view.json()
    del seen["own_amount_fen"]
    return seen, page.json()["claims"]


def is_blind(seen: tuple[Json, list[Json]]) -> bool:
    """Whether no amount was shown. Some of them only would be neither."""
    view, claims = seen
    shown = [view["claimed_fen"], view["remaining_fen"], *(claim["amount_fen"] for claim in claims)]
    assert len({fen is None for fen in shown}) == 1, shown
    return shown[0] is None


@pytest.mark.parametrize("split", ["lucky", "equal"])
async def test_who_has_no_share_sees_no_amounts_while_the_packet_is_open(client: Client, split: str) -> None:
    packet_id = await client.send("alice", total_fen=1_000, count=5, split=split)
    given = [await client.claim(packet_id, user) for user in ("bob", "carol")]
    given_fen = sum(answer["amount_fen"] for answer in given)
    whole = await look(client, packet_id, client.as_user("alice"))
    assert (whole[0]["claimed_fen"], whole[0]["remaining_fen"]) == (given_fen, 1_000 - given_fen)

    seen = await look(client, packet_id, client.as_user("bot"))
    assert is_blind(seen)
    view, claims = seen
    assert view == whole[0] | dict.fromkeys(HIDDEN)  # the total, the terms and the counts stay
    assert claims == [claim | {"amount_fen": None} for claim in whole[1]]
    for headers in (client.as_user("bob"), client.as_user("root", "admin"), client.as_backend("carol")):
        assert await look(client, packet_id, headers) == whole
    for headers in (client.as_backend("bot"), client.as_backend()):
        assert await look(client, packet_id, headers) == seen

    await client.claim(packet_id, "bot")
    assert not is_blind(await look(client, packet_id, client.as_user("bot")))


async def test_everybody_sees_the_amounts_once_it_has_ended(client: Client, settings: Settings) -> None:
    sold_out, taken_back, closed = [await client.send("alice", total_fen=1_000, count=2) for _ in range(3)]
    over = await client.send("alice", total_fen=1_000, count=2, ttl_s=1)  # nobody closes it
    for packet_id in (sold_out, closed, over):
        await client.claim(packet_id, "bob")
    for packet_id in (sold_out, taken_back, closed):
        assert is_blind(await look(client, packet_id, client.as_user("bot")))
    await client.claim(sold_out, "carol")
    async with Engine.open(settings) as engine:
        await engine.retractions.retract(taken_back, "alice", confirmed=True)
        await let_time_run_out(engine, closed)
        await engine.store.close(closed, CloseReason.EXPIRED)

    async def is_over() -> bool:
        view, _ = await look(client, over, client.as_user("alice"))
        return bool(view["state"] == "expired")

    await wait_until(is_over, what="the end of its time")
    for packet_id in (sold_out, taken_back, closed, over):
        seen = await look(client, packet_id, client.as_user("bot"))
        assert not is_blind(seen)
        assert seen == await look(client, packet_id, client.as_user("alice"))


async def test_also_where_the_claims_are_read_from_the_ledger(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "READ_WHOLE_COUNT_MAX", 1)
    packet_id = await client.send("alice", total_fen=1_000, count=5)
    await client.claim(packet_id, "bob")
    async with Engine.open(settings) as engine, persisting(settings):
        await caught_up(engine)
    seen = await look(client, packet_id, client.as_user("bot"))
    assert [claim["amount_fen"] for claim in seen[1]] == [None]
    assert is_blind(seen)
    assert not is_blind(await look(client, packet_id, client.as_user("bob")))


async def test_what_looks_first_learns_nothing_about_the_next_share(client: Client) -> None:
    """The former bot: it claimed when what was left was worth more than the mean."""
    packet_id = await client.send("alice", total_fen=10_000, count=10)
    answers = set()
    for number in range(9):
        view, _ = await look(client, packet_id, client.as_user("bot"))
        answers.add(tuple(view[name] for name in (*HIDDEN, "total_fen", "count")))
        await client.claim(packet_id, f"user{number}")
    assert answers == {(None, None, None, 10_000, 10)}
