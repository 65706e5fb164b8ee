"""Lists of entries over the ledger's volumes: nothing is missing or twice, and old volumes are left alone."""

import re
from collections.abc import Sequence
from typing import Any, cast

import asyncpg
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engine.engine import Engine
from engine.ledger.volumes import Payers, Volumes
from engine.paging import NEWEST
from engine.queries import load
from engine.settings import Settings
from tests.support.ledger_volumes import begin, closed
from tests.support.scenes import fund, persisting, send, settled


def is_of(payer: int, payers: Payers) -> bool:
    """Whether an account is one of these."""
    return payers.first <= payer < payers.end and not payers.gap <= payer < payers.gap_end


@given(data=st.data())
@hypothesis_settings(max_examples=200, deadline=None)
async def test_the_newest_entries_are_found_in_whatever_volumes_they_are(data: st.DataObject) -> None:
    """Any entries in any volumes, of which any but the last are closed, against sorting them all."""
    count = data.draw(st.integers(1, 9), "volumes")
    places = data.draw(st.lists(st.integers(0, count - 1), max_size=40), "the volume of each entry")
    entries = [{"transfer_id": number, "payer": (10 + place) * 10**17} for number, place in enumerate(places, 1)]
    begins = {
        place: min([number for number, held in enumerate(places, 1) if held == place], default=1)
        for place in range(count)
    }
    closed = data.draw(st.sets(st.integers(1, max(1, count - 1))), "closed") - {count - 1, 0}
    rows = [
        {
            "volume": 10 + place,
            "first_transfer_id": begins[place],
            "last_transfer_id": max([n for n, held in enumerate(places, 1) if held == place], default=0)
            if place in closed
            else None,
        }
        for place in reversed(range(count))
    ]
    asked: list[Payers] = []

    class Pool:
        async def fetch(self, _query: str) -> list[dict[str, int | None]]:
            return rows

    below, limit = data.draw(st.integers(1, 45), "below"), data.draw(st.integers(1, 6), "limit")

    async def fetch(payers: Payers) -> list[dict[str, int]]:
        asked.append(payers)
        among = [entry for entry in entries if is_of(entry["payer"], payers) and entry["transfer_id"] < below]
        return among[::-1][:limit]

    found: list[Any] = await Volumes(cast(asyncpg.Pool, Pool())).newest(below, limit, cast(Any, fetch))
    wanted = [entry for entry in entries if entry["transfer_id"] < below][::-1][:limit]
    assert found == wanted
    assert all(sum(is_of(entry["payer"], payers) for payers in asked) <= 1 for entry in entries)
    assert all(is_of((10 + place) * 10**17, asked[0]) for place in range(count) if place not in closed)


async def test_old_volumes_are_not_looked_into_for_a_page_that_is_full(engine: Engine, settings: Settings) -> None:
    async with persisting(settings):
        sent = []
        for _ in range(4):
            await begin(engine)
            sent.append((await send(engine, total_fen=1, count=1)).packet_id)
            await engine.claims.claim(sent[-1], "bob")
            await settled(engine, sent[-1])
    assert await closed(engine) == 3
    known, asked = Volumes(engine.pool), list[Payers]()
    query = load("packets")["received_by"]

    async def fetch(payers: Payers) -> Sequence[asyncpg.Record]:
        asked.append(payers)
        return await engine.pool.fetch(query, "bob", NEWEST, 1, None, *payers)

    (newest,) = await known.newest(NEWEST, 1, fetch)
    assert str(newest["packet_id"]) == sent[-1]
    assert asked == [Payers(0, 2**63 - 1, 11 * 10**17, 14 * 10**17)]  # the open volumes: the first, and the last
    page = await engine.views.records("bob", role="received", after=None, limit=3)
    assert [packet.packet_id for packet in page.packets] == sent[:0:-1]
    rest = await engine.views.records("bob", role="received", after=page.next, limit=3)
    assert [packet.packet_id for packet in rest.packets] == sent[:1]
    entries = await engine.wallets.transfers("bob", after=None, limit=10)
    assert [entry.packet_id for entry in entries.transfers] == sent[::-1]


async def test_no_entry_is_missing_below_one_that_was_booked_after_it(engine: Engine, settings: Settings) -> None:
    """While a page is read, a wallet gets a deposit, which is in the first volume, and then a share, in the last."""
    async with persisting(settings):
        await begin(engine)
        old = await send(engine, total_fen=1, count=1)
        await engine.claims.claim(old.packet_id, "bob")
        await settled(engine, old.packet_id)
        await begin(engine)
        assert await closed(engine) == 1
        new = await send(engine, total_fen=1, count=1)
        query, is_first = load("wallet")["transfers"], True

        async def fetch(payers: Payers) -> Sequence[asyncpg.Record]:
            nonlocal is_first
            rows: Sequence[asyncpg.Record] = await engine.pool.fetch(query, "bob", NEWEST, 9, None, *payers)
            if is_first:
                is_first = False
                await fund(engine, "bob", 5)
                await engine.claims.claim(new.packet_id, "bob")
                await settled(engine, new.packet_id)
            return rows

        page = await Volumes(engine.pool).newest(NEWEST, 9, fetch)
    everything = await Volumes(engine.pool).newest(NEWEST, 9, fetch)
    assert len(everything) == 3
    assert page == everything[-len(page) :]


async def test_what_was_received_in_a_day_is_not_looked_up_in_volumes_that_were_closed_before(
    engine: Engine, settings: Settings
) -> None:
    async with persisting(settings):
        for _ in range(4):
            await begin(engine)
            sent = await send(engine, total_fen=1, count=1)
            await engine.claims.claim(sent.packet_id, "bob")
            await settled(engine, sent.packet_id)
    assert await closed(engine) == 3
    bob = await engine.pool.fetchval("SELECT account_id FROM accounts WHERE owner = 'bob'")
    numbers = await engine.pool.fetchval(
        "SELECT array_agg(transfer_id ORDER BY transfer_id) FROM transfers WHERE to_account = $1", bob
    )
    judge = f"EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF) {load('receiving')['judge']}"
    for first, volumes_of_it in ((0, 5), (numbers[1], 4), (numbers[3], 2)):
        plan = [row[0] for row in await engine.pool.fetch(judge, [bob], 2, first, 0, NEWEST)]
        looked = [line for line in plan if re.search(r" on transfers_\d+ ", line) and "never executed" not in line]
        assert len(looked) == volumes_of_it, plan
    judged = await engine.pool.fetch("SELECT is_reached, received_fen FROM limits_reached ORDER BY change_id")
    assert [tuple(row) for row in judged] == [(True, 4), (False, 1)]
