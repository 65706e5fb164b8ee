"""Lists page by page: each entry once and in order, whatever the pages' size, and no list without an end."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pytest
import pytest_asyncio
from hongbao_client import Signer, UnreadableAnswerError
from hongbao_client.pages import async_items, items
from hypothesis import given
from hypothesis import strategies as st

from engine.settings import Settings
from tests.support.both_clients import KINDS, Both, Kind, client_of
from tests.support.front import Client, serving
from tests.support.scenes import persisting

CLAIMANTS = 23


@dataclass(frozen=True)
class Part:
    """A page of a list of numbers; the cursor is the place of its next entry."""

    numbers: Sequence[int]
    next: str | None


def part_of(numbers: list[int], sizes: list[int], after: str | None) -> Part:
    """A page as a server may cut it: of any size, also an empty one."""
    begin = int(after or 0)
    end = begin + sizes[begin % len(sizes)]
    return Part(numbers[begin:end], str(end) if end < len(numbers) else None)


LISTS = st.lists(st.integers(), max_size=40)
SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=9)


@given(LISTS, SIZES)
def test_all_entries_come_once_and_in_order(numbers: list[int], sizes: list[int]) -> None:
    assert list(items(lambda after: part_of(numbers, sizes, after), lambda part: part.numbers, None)) == numbers


@given(LISTS, SIZES)
async def test_all_entries_come_once_and_in_order_awaited(numbers: list[int], sizes: list[int]) -> None:
    async def ask(after: str | None) -> Part:
        return part_of(numbers, sizes, after)

    assert [each async for each in async_items(ask, lambda part: part.numbers, None)] == numbers


def test_a_page_is_asked_for_only_when_it_is_wanted() -> None:
    asked: list[str | None] = []

    def ask(after: str | None) -> Part:
        asked.append(after)
        return part_of([1, 2, 3], [1], after)

    entries = items(ask, lambda part: part.numbers, None)
    assert (next(entries), asked) == (1, [None])
    assert (next(entries), asked) == (2, [None, "1"])


def test_a_list_without_an_end_is_left() -> None:
    with pytest.raises(UnreadableAnswerError, match="no end"):
        list(items(lambda _after: Part([1], "same"), lambda part: part.numbers, None))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(shared_settings: Settings) -> AsyncIterator[tuple[Client, str]]:
    """A server, and a packet that all claimants have a share of."""
    async with serving(shared_settings) as (server, _):
        async with persisting(shared_settings):
            packet_id = await server.send("mallory", total_fen=1_000, count=CLAIMANTS)
            for number in range(CLAIMANTS):
                await server.claim(packet_id, f"claimant-{number}")
                await server.deposit("collector", number + 1)
        yield server, packet_id


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=KINDS)
async def client(served: tuple[Client, str], request: pytest.FixtureRequest) -> AsyncIterator[Both]:
    kind: Kind = request.param
    signer = Signer(secret=served[0].secret)
    async with client_of(kind, str(served[0].http.base_url), signer.tokens("backend", "admin")) as both:
        yield both


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("limit", [1, 2, 7, CLAIMANTS - 1, CLAIMANTS, CLAIMANTS + 1, None])
async def test_a_real_list_has_no_gaps(served: tuple[Client, str], client: Both, limit: int | None) -> None:
    claims = await client.all("claims.iterate", served[1], limit=limit)
    assert [claim.slot for claim in claims] == list(range(CLAIMANTS))
    assert sum(claim.amount_fen for claim in claims) == 1_000
    entries = await client.all("wallets.iterate_entries", "collector", limit=limit)
    assert [entry.amount_fen for entry in entries] == list(range(CLAIMANTS, 0, -1))


@pytest.mark.asyncio(loop_scope="module")
async def test_a_list_goes_on_from_a_cursor(served: tuple[Client, str], client: Both) -> None:
    page = await client.ask("claims.list", served[1], limit=5)
    rest = await client.all("claims.iterate", served[1], after=page.next)
    assert [claim.slot for claim in (*page.claims, *rest)] == list(range(CLAIMANTS))
