"""The judge of chaos on errands: transfers, takings back, withdrawals and freezes that agree, and one of each lie."""

from dataclasses import replace
from typing import Any

import pytest

from loadtest.chaos.books import Books, Packet, Share
from loadtest.chaos.checker import check
from loadtest.chaos.history import Claim, Errand, Fault, Record

BACK, TAKEN, CALLED_OFF, OPEN = (f"100000000000000000{number}" for number in range(1, 5))


def errand(at_s: float, what: str, number: str = "", status: int = 200, **told: object) -> Errand:
    fields: dict[str, Any] = {"user_id": "ann", "asked_s": at_s, "answered_s": at_s + 0.01, **told}
    return Errand(what=what, number=number, status=status, **fields)


def won(at_s: float, amount_fen: int = 50) -> Claim:
    return Claim(
        asked_s=at_s,
        answered_s=at_s + 0.01,
        status=200,
        packet_id=OPEN,
        user_id="bob",
        outcome="claimed",
        amount_fen=amount_fen,
    )


HISTORY: list[Record] = [
    errand(1.0, "password", status=422, code="invalid_fields"),
    errand(1.1, "send", BACK, 201),
    errand(1.2, "transfer", TAKEN, 201),
    errand(1.3, "transfer", CALLED_OFF, 201),
    errand(1.4, "send", OPEN, 201),
    errand(1.5, "transfer", status=0, code="TimeoutError"),
    errand(2.0, "take back", BACK),
    errand(2.1, "take back", OPEN, 409, code="consent_required"),
    errand(2.2, "confirm", TAKEN, user_id="bob"),
    errand(2.3, "cancel", CALLED_OFF),
    errand(2.4, "withdraw", "7", 201),
    errand(3.0, "freeze", user_id="bob", is_in_force=True),
    errand(4.0, "lift", user_id="bob"),
    won(4.5),
]
BOOKS = Books(
    packets={
        BACK: Packet(sender="ann", state="retracted", total_fen=10, count=2, refunded_fen=10),
        TAKEN: Packet(
            sender="ann", state="exhausted", total_fen=30, count=1, recipients=frozenset({"bob"}), is_transfer=True
        ),
        CALLED_OFF: Packet(
            sender="ann", state="retracted", total_fen=5, count=1, refunded_fen=5, recipients=frozenset({"bob"})
        ),
        OPEN: Packet(sender="ann", state="open", total_fen=90, count=2, custody_fen=40),
    },
    claims=[Share(TAKEN, "bob", 0, 30), Share(OPEN, "bob", 0, 50)],
    withdrawals=frozenset({"7"}),
)


def judged(*more: Record, books: Books = BOOKS) -> list[str]:
    return check([*HISTORY, *more], books, "memory").problems


def with_packet(number: str, **changes: Any) -> Books:  # noqa: ANN401  # any of its fields
    return replace(BOOKS, packets={**BOOKS.packets, number: replace(BOOKS.packets[number], **changes)})


def test_errands_and_books_that_agree_are_clean() -> None:
    assert judged() == []


@pytest.mark.parametrize(
    ("lie", "problem"),
    [
        (errand(9.0, "view", OPEN, 500, code="internal"), f"ann, view {OPEN}: the answer was 500 internal"),
        (errand(9.0, "send", "1000000000000000009", 201), "the ledger does not hold it"),
        (errand(9.0, "transfer", OPEN, 201, user_id="eve"), f"eve, transfer {OPEN}: it was answered, and the ledger"),
        (errand(9.0, "take back", OPEN), f"take back {OPEN}: it was answered, and in the ledger it is open"),
        (errand(9.0, "cancel", TAKEN), f"cancel {TAKEN}: it was answered, and in the ledger it is exhausted"),
        (errand(9.0, "confirm", CALLED_OFF), "it was confirmed, and in the ledger it is retracted"),
        (errand(9.0, "withdraw", "8", 201), "ann, withdraw 8: it was answered, and the ledger does not hold it"),
    ],
)
def test_an_errand_that_cannot_be_done_is_found(lie: Record, problem: str) -> None:
    found = judged(lie)
    assert [told for told in found if problem in told], found


@pytest.mark.parametrize(
    ("books", "problem"),
    [
        (with_packet(BACK, state="open", custody_fen=10, refunded_fen=0), "in the ledger it is open"),
        (with_packet(OPEN, sender="eve"), "the ledger does not hold it"),
        (replace(BOOKS, processing=2), "2 withdrawals are still processed"),
        (replace(BOOKS, claims=[*BOOKS.claims, Share(BACK, "eve", 0, 5)]), "eve never asked for a share of packet"),
    ],
)
def test_books_without_what_was_done_are_found(books: Books, problem: str) -> None:
    found = judged(books=books)
    assert [told for told in found if problem in told], found


@pytest.mark.parametrize(
    ("claimed", "is_found"),
    [(won(2.99), False), (won(3.5), True), (won(3.995), False), (won(4.2), False)],
    ids=["asked before it held", "asked while it held", "answered after it was to be lifted", "asked after that"],
)
def test_who_is_frozen_wins_nothing(claimed: Claim, is_found: bool) -> None:
    history = [record for record in HISTORY if record != won(4.5)]
    found = check([*history, claimed], BOOKS, "memory").problems
    assert bool([told for told in found if "bob was frozen from 3.010 s on" in told]) == is_found


def test_a_freeze_that_did_not_reach_everywhere_promises_nothing() -> None:
    history = [record for record in HISTORY if not isinstance(record, Errand) or record.what != "freeze"]
    assert check([*history, errand(3.0, "freeze", user_id="bob"), won(3.5)], BOOKS, "memory").problems == [
        f"bob and packet {OPEN}: it was answered claimed twice"
    ]


def test_what_a_killed_redis_forgot_within_the_promise_is_no_lie() -> None:
    killed = Fault(began_s=2.5, ended_s=2.5, kind="kill", target="redis", undoes=True)
    books = with_packet(BACK, state="open", custody_fen=10, refunded_fen=0)
    assert judged(killed, books=books) == []
