"""What the ledger refuses: each breach of a rule is set aside with its reason, and the lane goes on."""

from dataclasses import dataclass

import pytest

from engine.events import Change, Claims, Ending
from tests.support.books import AT_MS, UNKNOWN, Books, claim, exhausted, expired, opening
from tests.support.scenes import assert_books_balance


@dataclass(frozen=True, kw_only=True)
class Breach:
    """A change that breaks a rule, after ``opening`` and bob's claim of slot 0, and what the reason must name."""

    change: Change
    reason: str
    kind: str = "claim"


THE_PACKET = -1  # stands for the packet that the test makes
BREACHES = {
    "the user has a share": Breach(change=claim(THE_PACKET, "bob", 1, 5), reason="claim_once_per_user"),
    "the slot is taken": Breach(change=claim(THE_PACKET, "eve", 0, 5), reason="claim_once_per_slot"),
    "custody holds less": Breach(change=claim(THE_PACKET, "eve", 1, 91), reason="balance_not_negative"),
    "no such packet": Breach(change=claim(UNKNOWN, "eve", 0, 5), reason="an account that is not in the ledger"),
    "no amount": Breach(change=claim(THE_PACKET, "eve", 1, 0), reason="transfers_amount_fen_check"),
    "opened twice": Breach(change=opening(THE_PACKET), reason="not waiting to be opened", kind="opening"),
    "opening of no packet": Breach(change=opening(UNKNOWN), reason="not waiting to be opened", kind="opening"),
    "ending of no packet": Breach(change=expired(UNKNOWN, 1, 5), reason="the packet is unknown", kind="ending"),
    "ending of no packet with nothing left": Breach(
        change=expired(UNKNOWN, 0, 0), reason="the packet is not open", kind="ending"
    ),
    "more goes back than is there": Breach(
        change=expired(THE_PACKET, 4, 91), reason="balance_not_negative", kind="ending"
    ),
}


@pytest.mark.parametrize("breach", BREACHES.values(), ids=BREACHES.keys())
async def test_a_breach_is_set_aside_with_its_reason_and_the_lane_goes_on(books: Books, breach: Breach) -> None:
    packet = await books.packet(total_fen=100, count=5)
    bad = breach.change if breach.change.packet != THE_PACKET else breach.change._replace(packet=packet)
    applied = await books.apply(
        opening(packet), claim(packet, "bob", 0, 10), bad, claim(packet, "carol", 2, 20), claim(packet, "dave", 3, 30)
    )
    assert (applied.position, applied.claims, applied.quarantined) == (5, 3, 1)
    assert [await books.balance(name) for name in ("bob", "carol", "dave", "eve", packet)] == [10, 20, 30, 0, 40]
    (aside,) = await books.quarantine()
    assert (aside["position"], aside["packet_id"], aside["kind"]) == (3, bad.packet, breach.kind)
    assert breach.reason in aside["reason"]
    if isinstance(bad, Claims):
        assert (aside["user_id"], aside["slot"], aside["amount_fen"]) == (
            bad.user_ids[0],
            bad.slots[0],
            bad.amounts_fen[0],
        )
    await books.apply(claim(packet, "frank", 4, 40), exhausted(packet))
    assert (await books.packet_row(packet))["state"] == "exhausted"
    assert [(batch["quarantined"], batch["position"]) for batch in await books.batches()] == [(1, 5), (0, 6)]
    await assert_books_balance(books.connection)


@pytest.mark.parametrize(
    "late",
    [claim(THE_PACKET, "late", 4, 5), expired(THE_PACKET, 4, 90), expired(THE_PACKET, 0, 0)],
    ids=["claim", "ending", "ending with nothing left"],
)
async def test_what_comes_after_a_packets_end_is_set_aside(books: Books, late: Claims | Ending) -> None:
    packet = await books.packet(total_fen=100, count=5)
    await books.apply(opening(packet), claim(packet, "bob", 0, 10), expired(packet, 4, 90))
    await books.apply(late._replace(packet=packet))
    assert [aside["position"] for aside in await books.quarantine()] == [4]
    assert [await books.balance(name) for name in ("alice", "bob", "late", packet)] == [90, 10, 0, 0]
    await assert_books_balance(books.connection)


async def test_an_ending_that_is_set_aside_does_not_count_as_an_end(books: Books) -> None:
    """Its packet's keys are all that is left to explain it, so they must not be dropped."""
    packet = await books.packet(total_fen=100, count=5)
    applied = await books.apply(opening(packet), expired(packet, 5, 101))
    assert (applied.ended, applied.quarantined) == ([], 1)


async def test_many_breaches_among_many_changes_are_each_found(books: Books) -> None:
    packet = await books.packet(total_fen=1_000, count=300)
    good = [claim(packet, f"user{slot}", slot, 1) for slot in range(300)]
    bad = {slot: claim(packet, f"user{slot}", 1_000 + slot, 1) for slot in range(0, 300, 37)}
    mixed = [change for slot, first in enumerate(good) for change in (first, *([bad[slot]] if slot in bad else []))]
    applied = await books.apply(opening(packet), *mixed)
    assert (applied.claims, applied.quarantined) == (300, len(bad))
    assert sorted(aside["slot"] for aside in await books.quarantine()) == sorted(
        change.slots[0] for change in bad.values()
    )
    await assert_books_balance(books.connection)


async def test_endings_that_no_number_can_sum_are_each_set_aside(books: Books) -> None:
    packets = [await books.packet(total_fen=100, count=5) for _ in range(6)]
    too_much = [expired(packet, 4, 2**62) for packet in packets[1:]]
    applied = await books.apply(*map(opening, packets), claim(packets[0], "bob", 0, 10), *too_much)
    assert (applied.claims, applied.quarantined) == (1, 5)
    assert [aside["amount_fen"] for aside in await books.quarantine()] == [2**62] * 5
    assert await books.balance("bob") == 10
    await assert_books_balance(books.connection)


async def test_of_many_claims_of_one_call_only_the_one_that_breaks_a_rule_is_set_aside(books: Books) -> None:
    packet = await books.packet(total_fen=100, count=5)
    await books.apply(opening(packet), claim(packet, "bob", 0, 10))
    many = Claims(packet, ["carol", "dave", "bob", "eve"], [1, 2, 3, 4], [20, 5, 30, 35], AT_MS, 6)
    applied = await books.ledger.apply(books.connection, books.lane, 2, 6, [many])
    assert (applied.claims, applied.quarantined) == (3, 1)
    (aside,) = await books.quarantine()
    assert (aside["position"], aside["user_id"], aside["slot"], aside["amount_fen"]) == (5, "bob", 3, 30)
    assert [await books.balance(name) for name in ("bob", "carol", "dave", "eve", packet)] == [10, 20, 5, 35, 30]
    positions = await books.connection.fetch("SELECT slot, position FROM transfers WHERE kind = 'claim' ORDER BY slot")
    assert [tuple(row) for row in positions] == [(0, 2), (1, 3), (2, 4), (4, 6)]
    await assert_books_balance(books.connection)
