"""The judge of chaos: a history and books that agree, then one of each kind of lie, and each is found."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadtest.chaos.books import Books, Packet, Share
from loadtest.chaos.checker import check
from loadtest.chaos.figures import figures
from loadtest.chaos.findings import PROBLEMS_MAX, Findings
from loadtest.chaos.history import Carried, Claim, Deposit, Fault, History, Listed, Look, Record, Recorded, Send, Tap
from loadtest.chaos.promise import FSYNC_S_MAX

P, Q = "1000000000000000001", "1000000000000000002"
FRIENDS = ("ann", "bob")


def claim(at_s: float, user_id: str, outcome: str, amount_fen: int = 0, packet_id: str = P, **told: object) -> Claim:
    fields: dict[str, Any] = {"asked_s": at_s, "answered_s": at_s + 0.01, "status": 200, **told}
    return Claim(packet_id=packet_id, user_id=user_id, outcome=outcome, amount_fen=amount_fen, **fields)


def send(at_s: float, key: str, packet_id: str, total_fen: int, count: int, **told: object) -> Send:
    fields: dict[str, Any] = {"asked_s": at_s, "answered_s": at_s + 0.01, "status": 201, **told}
    return Send(sender="sam", key=key, total_fen=total_fen, count=count, packet_id=packet_id, **fields)


def look(at_s: float, claimed: tuple[int, int], remaining: tuple[int, int], **told: object) -> Look:
    (claimed_count, claimed_fen), (remaining_count, remaining_fen) = claimed, remaining
    fields: dict[str, Any] = {
        "asked_s": at_s,
        "answered_s": at_s + 0.01,
        "status": 200,
        "packet_id": P,
        "state": "open",
        **told,
    }
    return Look(
        claimed_count=claimed_count,
        claimed_fen=claimed_fen,
        remaining_count=remaining_count,
        remaining_fen=remaining_fen,
        **fields,
    )


def deposit(at_s: float, key: str, amount_fen: int, status: int = 201, code: str = "") -> Deposit:
    return Deposit(
        asked_s=at_s, answered_s=at_s + 0.01, status=status, code=code, user_id="sam", key=key, amount_fen=amount_fen
    )


def killed(at_s: float, target: str = "redis", kind: str = "kill") -> Fault:
    return Fault(began_s=at_s, ended_s=at_s, kind=kind, target=target, undoes=target == "redis")


HISTORY: list[Record] = [
    deposit(1.0, "d1", 500),
    deposit(1.1, "d2", 400, status=0, code="TimeoutError"),
    deposit(1.2, "d2", 400),
    send(2.0, "s1", P, 300, 2),
    send(2.1, "s2", "", 200, 2, recipients=FRIENDS, status=503, code="unavailable"),
    send(2.2, "s2", Q, 200, 2, recipients=FRIENDS),
    send(2.3, "s1", P, 300, 2),
    send(2.4, "s3", "", 999, 3, status=0, code="TimeoutError"),
    claim(3.0, "ann", "claimed", 100),
    claim(3.1, "ann", "already_claimed", 100),
    claim(3.2, "bob", "", status=0, code="ServerDisconnectedError"),
    claim(3.3, "bob", "already_claimed", 200),
    claim(3.4, "cid", "sold_out"),
    claim(3.5, "cid", "", packet_id=Q, status=403, code="not_invited"),
    claim(3.6, "bob", "claimed", 90, packet_id=Q),
    claim(3.7, "bob", "", packet_id=Q, status=503, code="busy"),
    look(4.0, (1, 100), (1, 200)),
    Listed(asked_s=4.1, answered_s=4.2, status=200, packet_id=P, claims=(("ann", 100), ("bob", 200))),
    Carried(at_s=5.0),
    killed(60.0),
]
BOOKS = Books(
    packets={
        P: Packet(sender="sam", state="exhausted", total_fen=300, count=2),
        Q: Packet(sender="sam", state="open", total_fen=200, count=2, recipients=frozenset(FRIENDS), custody_fen=110),
    },
    claims=[Share(P, "ann", 0, 100), Share(P, "bob", 1, 200), Share(Q, "bob", 0, 90)],
    deposits={"sam": Counter({500: 1, 400: 1})},
)


def judged(*more: Record, books: Books = BOOKS, ack: str = "memory", first: list[Record] = HISTORY) -> Findings:
    return check([*first, *more], books, ack)


def with_packet(**changes: Any) -> Books:  # noqa: ANN401  # any of its fields
    return replace(BOOKS, packets={**BOOKS.packets, P: replace(BOOKS.packets[P], **changes)})


def with_claims(*claims: Share) -> Books:
    return replace(BOOKS, claims=[*BOOKS.claims, *claims])


def without(user_id: str) -> Books:
    """The ledger without somebody's share of P; what it held is in custody, so that nothing else is wrong."""
    claims = [share for share in BOOKS.claims if (share.packet_id, share.user_id) != (P, user_id)]
    left_fen = 300 - sum(share.amount_fen for share in claims if share.packet_id == P)
    packets = {**BOOKS.packets, P: replace(BOOKS.packets[P], state="open", custody_fen=left_fen)}
    return replace(BOOKS, claims=claims, packets=packets)


def test_a_history_and_books_that_agree_are_clean() -> None:
    findings = judged()
    assert findings.problems == []
    assert findings.lost == []
    assert findings.acknowledged == 3


@pytest.mark.parametrize(
    ("lie", "problem"),
    [
        (claim(9.0, "ann", "already_claimed", 101), "ann and packet 1000000000000000001: told 100 fen at 3.010 s"),
        (claim(9.0, "ann", "claimed", 100), "it was answered claimed twice"),
        (claim(9.0, "ann", "sold_out"), "told 100 fen at 3.010 s, then sold_out at 9.010 s"),
        (claim(9.0, "eve", "claimed", 50), "it got a share at 9.010 s, though cid had been told sold_out"),
        (claim(9.0, "eve", "claimed", 50, packet_id=Q), "the answer was claimed with 50 fen"),
        (claim(9.0, "ann", "already_claimed", 0), "the answer was already_claimed with 0 fen"),
        (claim(9.0, "eve", "sold_out", 7), "the answer was sold_out with 7 fen"),
        (claim(9.0, "eve", "won", 7), "the answer was won with 7 fen"),
        (claim(9.0, "eve", ""), "the answer was nothing with 0 fen"),
        (claim(9.0, "eve", "", status=500, code="internal"), "the answer was 500 internal"),
        (claim(9.0, "eve", "", status=404, code="unknown_packet"), "the answer was 404 unknown_packet"),
        (claim(9.0, "ann", "", packet_id=Q, status=403, code="not_invited"), "the answer was 403 not_invited"),
        (claim(9.0, "eve", "", status=403, code="not_invited"), "the answer was 403 not_invited"),
        (look(9.0, (1, 100), (1, 199)), "was shown as 1 claimed with 100 fen, 1 left with 199 fen"),
        (look(9.0, (1, 100), (2, 200)), "was shown as 1 claimed with 100 fen, 2 left with 200 fen"),
        (look(9.0, (0, 0), (0, 0), status=404, code="unknown_packet"), f"Packet {P}: the answer was 404"),
        (
            Listed(asked_s=9.0, answered_s=9.1, status=200, packet_id=P, claims=(("ann", 100), ("ann", 100))),
            "name a user twice",
        ),
        (
            Listed(asked_s=9.0, answered_s=9.1, status=200, packet_id=P, claims=(("bob", 201),)),
            "told 200 fen at 3.310 s, then 201",
        ),
        (Listed(asked_s=9.0, answered_s=9.1, status=500, packet_id=P), "the answer was 500"),
        (send(9.0, "s1", Q, 300, 2), "sam was told two packets for one key"),
        (send(9.0, "s9", "1000000000000000009", 300, 2), "which the ledger does not hold"),
        (send(9.0, "s2", Q, 201, 2, recipients=FRIENDS), "with other terms than it was sent with"),
        (send(9.0, "s2", Q, 200, 2), "with other terms than it was sent with"),
        (send(9.0, "s9", "", 300, 2, status=500, code="internal"), "A packet of sam: the answer was 500 internal"),
        (deposit(9.0, "d9", 1), "sam has deposits of 900 fen in the ledger; 901 were answered, 901 asked for"),
        (deposit(9.0, "d9", 1, status=500), "A deposit of sam: the answer was 500"),
    ],
)
def test_an_answer_that_cannot_be_true_is_found(lie: Record, problem: str) -> None:
    found = judged(lie).problems
    assert [told for told in found if problem in told], found


@pytest.mark.parametrize(
    ("books", "problem"),
    [
        (without("ann"), f"ann was told 100 fen of packet {P} at 3.010 s (last at 3.110 s), the ledger gave nothing"),
        (without("ann"), f"ann was listed with 100 fen of packet {P} at 4.200 s, the ledger gave 0"),
        (replace(BOOKS, claims=[Share(P, "ann", 0, 99), *BOOKS.claims[1:]]), "the ledger gave 99 fen"),
        (with_claims(Share(Q, "bob", 1, 90)), f"bob has 2 shares of packet {Q}"),
        (with_claims(Share(Q, "ann", 0, 90)), f"Share 0 of packet {Q} was given 2 times"),
        (with_claims(Share(Q, "eve", 1, 110)), f"eve never asked for a share of packet {Q} and has one"),
        (with_claims(Share("1000000000000000009", "ann", 0, 1)), "has claims and does not exist"),
        (with_claims(Share(P, "cid", 2, 100)), "400 fen in 3 claims, 0 refunded, 0 in custody"),
        (with_packet(custody_fen=1), f"Packet {P} is exhausted with 1 fen in custody"),
        (with_packet(total_fen=301), f"Packet {P} of 301 fen in 2: 300 fen in 2 claims"),
        (with_packet(state="funded"), f"Packet {P} was paid for and never opened"),
        (with_packet(sender="eve"), f"sam was told of packet {P}, which the ledger does not hold"),
        (replace(BOOKS, sum_fen=-3), "All balances sum to -3 fen"),
        (replace(BOOKS, deposits={"sam": Counter({500: 2, 400: 1})}), "sam has deposits of 1400 fen in the ledger"),
        (replace(BOOKS, deposits={"sam": Counter({500: 1})}), "sam has deposits of 500 fen in the ledger"),
        (
            replace(
                BOOKS,
                packets=BOOKS.packets
                | {f"100000000000000001{n}": replace(BOOKS.packets[P], custody_fen=300, state="open") for n in "12"},
            ),
            "sam has 4 packets in the ledger; 2 were answered, 3 asked for",
        ),
    ],
)
def test_books_that_do_not_hold_what_was_told_are_found(books: Books, problem: str) -> None:
    found = judged(books=books).problems
    assert [told for told in found if problem in told], found


R, S = "1000099999000000003", "1000199999000000004"
RAIN = replace(
    BOOKS,
    packets=BOOKS.packets
    | {number: Packet(sender="mall", state="open", total_fen=50, count=5, custody_fen=40) for number in (R, S)},
    claims=[*BOOKS.claims, Share(R, "ann", 0, 10), Share(S, "bob", 0, 10)],
    waves={R: ("7", 1), S: ("7", 1)},
)


def tap(at_s: float, user_id: str, outcome: str, *shares: tuple[str, int], **told: object) -> Tap:
    fields: dict[str, Any] = {"asked_s": at_s, "answered_s": at_s + 0.01, "status": 200, **told}
    return Tap(campaign_id="7", user_id=user_id, outcome=outcome, shares=shares, **fields)


TAPS = [
    tap(5.0, "ann", "claimed", (R, 10)),
    tap(5.1, "ann", "already_claimed", (R, 10)),
    tap(5.2, "bob", "", status=503, code="busy"),
    tap(5.3, "cid", "missed"),
]


def test_taps_and_books_that_agree_are_clean() -> None:
    assert judged(*TAPS, books=RAIN).problems == []


@pytest.mark.parametrize(
    ("lie", "books", "problem"),
    [
        (tap(9.0, "cid", "claimed", (R, 10)), RAIN, f"cid was told 10 fen of packet {R}"),
        (tap(9.0, "ann", "already_claimed", (R, 11)), RAIN, f"ann and packet {R}: told 10 fen at 5.010 s, then 11"),
        (tap(9.0, "ann", "claimed", (R, 10)), RAIN, "it was answered claimed twice"),
        (tap(9.0, "cid", "claimed"), RAIN, "cid and campaign 7: the answer was claimed with 0 shares"),
        (tap(9.0, "cid", "missed", (R, 10)), RAIN, "the answer was missed with 1 shares"),
        (tap(9.0, "cid", "", status=500, code="internal"), RAIN, "cid and campaign 7: the answer was 500 internal"),
        (
            tap(9.0, "ann", "sold_out"),
            replace(RAIN, claims=[*RAIN.claims, Share(S, "ann", 1, 10)]),
            "ann has 2 shares of wave 1 of campaign 7",
        ),
        (
            tap(9.0, "ann", "sold_out"),
            replace(RAIN, claims=[*RAIN.claims, Share(S, "eve", 1, 10)]),
            "eve never tapped in campaign 7 and has a share of it",
        ),
    ],
)
def test_what_cannot_be_true_of_a_rain_is_found(lie: Record, books: Books, problem: str) -> None:
    found = judged(*TAPS, lie, books=books).problems
    assert [told for told in found if problem in told], found


LATE = claim(59.0, "dan", "claimed", 55, packet_id=Q)
"""Acknowledged a second before Redis is killed, and not in the books."""
BEFORE: list[Record] = [record for record in HISTORY if not isinstance(record, Fault)]


@pytest.fixture
def open_to_all() -> Books:
    return replace(BOOKS, packets={**BOOKS.packets, Q: replace(BOOKS.packets[Q], recipients=frozenset())})


def plain(records: list[Record]) -> list[Record]:
    """The same with Q open to all."""
    return [
        msgspec.structs.replace(record, recipients=())
        if isinstance(record, Send)
        else msgspec.structs.replace(record, status=0, code="TimeoutError")
        if isinstance(record, Claim) and record.status == 403
        else record
        for record in records
    ]


@pytest.mark.parametrize(
    ("ack", "fault", "is_covered"),
    [
        ("memory", killed(60.0), True),
        ("memory", killed(59.0 + FSYNC_S_MAX + 0.1), False),
        ("memory", killed(58.9), False),
        ("memory", killed(60.0, "postgres"), False),
        ("memory", killed(60.0, "serve-1"), False),
        ("memory", killed(500.0, kind="empty"), True),
        ("fsync", killed(60.0), False),
        ("fsync", killed(60.0, kind="rewind"), True),
        ("ledger", killed(60.0), False),
        ("ledger", killed(60.0, kind="empty"), False),
    ],
)
def test_a_loss_is_held_against_the_promise_of_the_mode(
    ack: str, fault: Fault, is_covered: bool, open_to_all: Books
) -> None:
    findings = judged(LATE, fault, books=open_to_all, ack=ack, first=plain(BEFORE))
    sentence = f"dan was told 55 fen of packet {Q}"
    assert [lost for lost in findings.lost if sentence in lost] == findings.lost
    assert len(findings.lost) == is_covered
    assert bool([problem for problem in findings.problems if sentence in problem]) != is_covered


def test_what_the_ledger_had_before_redis_was_emptied_is_not_covered(open_to_all: Books) -> None:
    carried, emptied = Carried(at_s=59.5), killed(60.0, kind="empty")
    findings = judged(LATE, carried, emptied, books=open_to_all, first=plain(BEFORE))
    assert findings.lost == []
    assert [problem for problem in findings.problems if "dan was told 55 fen" in problem]


def test_what_the_ledger_and_an_emptied_redis_agree_on_during_the_fault_is_not_what_it_had_before(
    open_to_all: Books,
) -> None:
    emptied = Fault(began_s=60.0, ended_s=63.0, kind="empty", target="redis", undoes=True)
    history = (LATE, Carried(at_s=58.0), Carried(at_s=61.0), emptied)  # a fault is noted when it is over
    findings = judged(*history, books=open_to_all, first=plain(BEFORE))
    assert len(findings.lost) == 1
    assert findings.problems == []


def test_a_lost_share_that_is_told_again_after_the_fault_is_no_loss_but_a_lie(open_to_all: Books) -> None:
    again = claim(70.0, "dan", "already_claimed", 55, packet_id=Q)
    findings = judged(LATE, killed(60.0), again, books=open_to_all, first=plain(BEFORE))
    assert findings.lost == []
    assert [problem for problem in findings.problems if "dan was told 55 fen" in problem]


def test_another_amount_after_a_covered_loss_is_one_loss(open_to_all: Books) -> None:
    again = claim(70.0, "dan", "claimed", 110, packet_id=Q)
    packets = {**open_to_all.packets, Q: replace(open_to_all.packets[Q], state="exhausted", custody_fen=0)}
    books = replace(open_to_all, packets=packets, claims=[*BOOKS.claims, Share(Q, "dan", 1, 110)])
    assert judged(LATE, killed(60.0), again, books=books, first=plain(BEFORE)).problems == []
    assert len(judged(LATE, killed(60.0), again, books=books, first=plain(BEFORE)).lost) == 1
    uncovered = judged(LATE, killed(60.0), again, books=books, ack="fsync", first=plain(BEFORE)).problems
    assert [problem for problem in uncovered if "told 55 fen at 59.010 s, then 110 at 70.010 s" in problem]
    assert [problem for problem in uncovered if "it was answered claimed twice" in problem]


@pytest.mark.parametrize(
    ("ack", "kind", "is_allowed"),
    [
        ("memory", "kill", True),
        ("fsync", "kill", False),
        ("ledger", "kill", True),
        ("memory", "empty", True),
        ("fsync", "empty", True),
        ("ledger", "empty", True),
    ],
)
def test_a_packet_that_ended_by_claims_nobody_was_told_of_may_give_again(
    ack: str, kind: str, is_allowed: bool, open_to_all: Books
) -> None:
    over = claim(59.0, "eve", "sold_out", packet_id=Q)
    listed = Listed(asked_s=59.0, answered_s=59.1, status=200, packet_id=Q, claims=(("cid", 110),))
    later = claim(70.0, "dan", "claimed", 110, packet_id=Q)
    packets = {**open_to_all.packets, Q: replace(open_to_all.packets[Q], state="exhausted", custody_fen=0)}
    books = replace(open_to_all, packets=packets, claims=[*BOOKS.claims, Share(Q, "dan", 1, 110)])
    told = (over, listed, killed(60.0, kind=kind), later)
    problems = judged(*told, books=books, ack=ack, first=plain(BEFORE)).problems
    assert bool(problems) != is_allowed
    if problems:
        assert [problem for problem in problems if "though eve had been told sold_out at 59.010 s" in problem]
        assert [problem for problem in problems if "cid was listed with 110 fen" in problem]


def test_problems_are_counted_when_they_are_too_many_to_tell() -> None:
    lies = [claim(9.0, f"eve{number}", "", status=500, code="internal") for number in range(PROBLEMS_MAX + 7)]
    findings = judged(*lies)
    assert len(findings.problems) == PROBLEMS_MAX
    assert findings.more == 7


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    with History(tmp_path / "history.jsonl") as history:
        for record in HISTORY:
            history.add(record)
        history.flush()
        recorded = Recorded(history.path)
        assert list(recorded) == HISTORY
        assert list(recorded) == HISTORY
        assert not history.is_full
        assert history.now_s() <= history.now_s()


def test_a_history_says_when_it_is_full(tmp_path: Path) -> None:
    with History(tmp_path / "history.jsonl", bytes_max=300) as history:
        fills: Callable[[], None] = lambda: history.add(HISTORY[0])  # noqa: E731
        fills()
        assert not history.is_full
        fills()
        fills()
        assert history.is_full


def test_figures_count_what_happened() -> None:
    told = figures([*HISTORY, claim(30.0, "cid", "sold_out"), claim(30.2, "cid", "expired")])
    assert told.requests == 20
    assert told.kills == {"redis": 1}
    assert told.outcomes == {"claimed": 2, "already_claimed": 2, "sold_out": 2, "expired": 1}
    assert told.refusals == {
        "no answer (TimeoutError)": 2,
        "no answer (ServerDisconnectedError)": 1,
        "503 unavailable": 1,
        "503 busy": 1,
    }
    assert (round(told.outage_s, 2), round(told.outage_from_s, 2)) == (26.4, 3.61)
