"""Receipts say what the ledger says, to those it concerns, and whatever is changed in one is found."""

import base64
import copy
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.resources.receipts import prefers_page
from engine.engine import Engine
from engine.errors import OperatorError
from engine.ids import new_packet_number
from engine.records import SplitKind
from engine.settings import Settings
from engine.text import yuan
from engine.wallets import receipts
from engine.wallets.receipt_check import FILE_BYTES_MAX, check, is_receipt, read
from tests.support.commands import hongbao, sentence
from tests.support.front import Client, Json, open_front
from tests.support.scenes import caught_up, let_time_run_out, persisting, send, settled, sweeping

HOSTILE = """<script>alert(1)</script>{{ 7*7 }}"'&amp; 恭喜"""


@dataclass(frozen=True, slots=True)
class Scene:
    """``ended``: alice's 50.00 in five shares, of which bob and carol have one. ``open``: hers, bob has a share."""

    client: Client
    settings: Settings
    ended: str
    open: str
    for_others: str

    async def get(self, number: str, user: str, status: int = 200, *scopes: str, **query: str) -> Json:
        headers = self.client.as_user(user, *(scopes or ("claim",)))
        answer = await self.client.http.get(f"/v1/transactions/{number}/receipt", headers=headers, params=query)
        assert answer.status_code == status, answer.text
        found: Json = answer.json()
        return found

    async def page(self, number: str, user: str) -> httpx.Response:
        headers = self.client.as_user(user) | {"accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
        return await self.client.http.get(f"/v1/transactions/{number}/receipt", headers=headers)


@pytest.fixture
async def scene(settings: Settings) -> AsyncIterator[Scene]:
    async with Engine.open(settings) as engine, persisting(settings), sweeping(settings):
        ended = (await send(engine, total_fen=5_000, count=5, split=SplitKind.EQUAL, greeting=HOSTILE)).packet_id
        still_open = (await send(engine, total_fen=500, count=5, split=SplitKind.EQUAL)).packet_id
        for user, packet_id in (("bob", ended), ("carol", ended), ("bob", still_open)):
            await engine.claims.claim(packet_id, user)
        await let_time_run_out(engine, ended)
        await settled(engine, ended)
        for_others = (await send(engine, total_fen=500, count=1, recipients=["dave", "erin"])).packet_id
        await caught_up(engine)
    async with open_front(settings) as client:
        yield Scene(client, settings, ended, still_open, for_others)


async def test_a_sender_reads_what_was_paid_claimed_and_returned(scene: Scene) -> None:
    receipt = await scene.get(scene.ended, "alice")
    facts = receipt["facts"]
    assert (facts["role"], facts["purpose"], facts["number"]) == ("sent", "packet", scene.ended)
    assert (facts["paid_fen"], facts["claimed_fen"], facts["returned_fen"]) == (5_000, 2_000, 3_000)
    assert (facts["claimed_count"], facts["count"], facts["state"]) == (2, 5, "expired")
    assert (facts["recipient"], facts["received_fen"], facts["greeting"]) == (None, None, HOSTILE)
    moved = [(moved["kind"], moved["amount_fen"]) for moved in facts["transfers"]]
    assert moved == [("send", 5_000), ("claim", 1_000), ("claim", 1_000), ("refund", 3_000)]
    assert receipt["hash"] == hash_by_a_stranger(facts)


async def test_a_recipient_reads_his_share_and_no_more(scene: Scene) -> None:
    for number in (scene.ended, scene.open):
        facts = (await scene.get(number, "bob"))["facts"]
        share = 1_000 if number == scene.ended else 100
        assert (facts["role"], facts["recipient"], facts["received_fen"]) == ("received", "bob", share)
        assert [(moved["kind"], moved["amount_fen"]) for moved in facts["transfers"]] == [("claim", share)]
        names = ("paid_fen", "count", "claimed_count", "claimed_fen", "returned_fen", "state", "settled_at_ms")
        assert {facts[name] for name in names} == {None}
        assert facts["at_ms"] == facts["transfers"][0]["at_ms"]


async def test_an_admin_reads_what_the_sender_does(scene: Scene) -> None:
    assert await scene.get(scene.ended, "root", 200, "admin") == await scene.get(scene.ended, "alice")


async def test_it_is_nobody_elses_business(scene: Scene) -> None:
    for number in (scene.ended, scene.open, scene.for_others, new_packet_number(0)):
        assert (await scene.get(number, "mallory", 404))["code"] == "unknown_transaction"
        answer = await scene.client.http.get(
            f"/v1/transactions/{number}/receipt", headers=scene.client.as_backend(None)
        )
        assert answer.status_code == 404
    assert (await scene.get(scene.ended, "dave", 404))["code"] == "unknown_transaction"


async def test_what_is_not_final_is_not_stated(scene: Scene) -> None:
    assert (await scene.get(scene.open, "alice", 409))["code"] == "not_settled"
    assert (await scene.get(scene.open, "root", 409, "admin"))["code"] == "not_settled"
    assert (await scene.get(scene.for_others, "dave", 409))["code"] == "not_in_ledger"
    await scene.client.claim(scene.open, "frank")  # nobody carries it into the ledger
    assert (await scene.get(scene.open, "frank", 409))["code"] == "not_in_ledger"


BAD_INPUTS: list[tuple[str | None, dict[str, str], int, str]] = [
    ("12", {}, 404, "unknown_transaction"),
    ("1000" + "x" * 15, {}, 404, "unknown_transaction"),
    (None, {"format": "pdf"}, 422, "invalid_fields"),
    (None, {"formats": "html"}, 422, "invalid_fields"),
    (None, {"format": ""}, 422, "invalid_fields"),
]


async def test_bad_input_is_named(scene: Scene) -> None:
    for number, query, status, code in BAD_INPUTS:
        problem = await scene.get(number or scene.ended, "alice", status, **query)
        assert problem["code"] == code
        if status == 422:
            assert [error["field"] for error in problem["errors"]] == list(query)


async def test_a_large_packet_s_claims_are_counted_and_not_listed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts, "CLAIMS_MAX", 2)
    async with Engine.open(settings) as engine, persisting(settings):
        numbers = [(await send(engine, total_fen=10 * count, count=count)).packet_id for count in (2, 3)]
        for number in numbers:
            for user in ("bob", "carol", "dave"):
                await engine.claims.claim(number, user)
        await settled(engine, *numbers)
        listed, summed = [(await engine.receipts.of(number, "alice", sees_all=False)).facts for number in numbers]
    assert (listed.are_claims_listed, [moved.kind for moved in listed.transfers]) == (True, ["send", "claim", "claim"])
    assert (summed.are_claims_listed, [moved.kind for moved in summed.transfers]) == (False, ["send"])
    assert (summed.claimed_count, summed.claimed_fen) == (3, 30)


def hash_by_a_stranger(facts: Json) -> str:
    """docs/receipt.md and nothing of the engine."""
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(b"hongbao receipt 1\n" + canonical.encode()).hexdigest()


@given(
    st.dictionaries(
        st.sampled_from(["a", "b_c", "at_ms", "greeting", "z"]),
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    )
)
def test_a_stranger_makes_the_same_hash_of_any_facts(facts: Json) -> None:
    assert receipts.hash_of(facts) == hash_by_a_stranger(facts)


def rehashed(receipt: Json) -> Json:
    return {"facts": receipt["facts"], "hash": hash_by_a_stranger(receipt["facts"])}


ANOTHER = {"sent": "received", "received": "sent", "packet": "transfer", None: 7, True: False, False: True}


def other(value: Any) -> object:  # noqa: ANN401
    """Another value of the same kind."""
    if value is None or isinstance(value, bool) or value in ("sent", "received", "packet"):
        return ANOTHER[value]
    if isinstance(value, int):
        return value + 1
    return value[:-1] + str((int(value[-1]) + 1) % 10) if value.isdigit() else value + "x"


def changes(facts: Json) -> list[tuple[str, Json]]:
    """The facts with each one, and each value of each transfer, changed in turn; and with one more, or one less."""
    changed = []
    for name in facts:
        if name != "transfers":
            # What is text or nothing cannot become a number.
            value = "mallory" if name in ("recipient", "state") and facts[name] is None else other(facts[name])
            changed.append((name, {**facts, name: value}))
    for place, moved in enumerate(facts["transfers"]):
        for name in moved:
            changed.append((f"transfers[{place}].{name}", copy.deepcopy(facts)))
            changed[-1][1]["transfers"][place][name] = other(moved[name])
    changed.append(("transfers, one less", {**facts, "transfers": facts["transfers"][1:]}))
    changed.append(("transfers, one more", {**facts, "transfers": [*facts["transfers"], facts["transfers"][0]]}))
    changed.append(("a fact more", {**facts, "bonus_fen": 1}))
    return changed


async def test_whatever_is_changed_is_found(scene: Scene) -> None:
    connection = await asyncpg.connect(scene.settings.database_url)
    try:
        for user in ("alice", "bob"):
            receipt = await scene.get(scene.ended, user)
            assert await check(connection, read(json.dumps(receipt).encode())) == []
            tried = changes(receipt["facts"])
            assert len(tried) > len(receipt["facts"])
            for what, facts in tried:
                kept_hash = {"facts": facts, "hash": receipt["hash"]}
                for shown in (kept_hash, rehashed(kept_hash)):
                    problems = await check(connection, read(json.dumps(shown).encode()))
                    assert problems, (user, what)
                    assert any("its hash is" in problem for problem in problems) is (shown is kept_hash), what
            other_hash = {**receipt, "hash": "0" * 64}
            (problem,) = await check(connection, read(json.dumps(other_hash).encode()))
            assert "its hash is" in problem
    finally:
        await connection.close()


async def test_a_share_of_another_is_not_mine(scene: Scene) -> None:
    """A genuine receipt of bob's, made over to somebody who has no share, and to one who has another."""
    connection = await asyncpg.connect(scene.settings.database_url)
    try:
        receipt = await scene.get(scene.ended, "bob")
        for user, told in (("mallory", "no share"), ("carol", "transfer"), ("a b", "no share")):
            forged = rehashed({"facts": {**receipt["facts"], "recipient": user}})
            problems = await check(connection, read(json.dumps(forged).encode()))
            assert any(told in problem for problem in problems), problems
    finally:
        await connection.close()


def without(name: str) -> Callable[[Json], None]:
    return lambda receipt: receipt["facts"].pop(name)


NO_RECEIPTS: list[tuple[Callable[[Json], Any], str]] = [
    (without("paid_fen"), "paid_fen"),
    (lambda receipt: receipt.pop("hash"), "hash"),
    (lambda receipt: receipt.update(more=1), "nothing else"),
    (lambda receipt: receipt["facts"].update(number="1"), "number"),
    (lambda receipt: receipt["facts"].update(role="all"), "role"),
    (lambda receipt: receipt["facts"].update(paid_fen="5000"), "paid_fen"),
    (lambda receipt: receipt["facts"].update(transfers={}), "transfers"),
    (lambda receipt: receipt["facts"].update(paid_fen=float("nan")), "not a receipt"),
    (lambda receipt: receipt["facts"].update(greeting="\ud800"), "not a receipt"),
]


async def test_what_is_no_receipt_is_refused(scene: Scene) -> None:
    receipt = await scene.get(scene.ended, "alice")
    for change, told in NO_RECEIPTS:
        changed = copy.deepcopy(receipt)
        change(changed)
        with pytest.raises(OperatorError, match=told):
            read(json.dumps(changed).encode())


async def test_a_name_given_twice_is_refused(scene: Scene) -> None:
    text = json.dumps(await scene.get(scene.ended, "alice"))
    doubled = text.replace('"paid_fen":', '"paid_fen": 999999, "paid_fen":')
    with pytest.raises(OperatorError, match="given twice"):
        read(doubled.encode())
    with pytest.raises(OperatorError, match="at most"):
        read(b" " * (FILE_BYTES_MAX + 1))
    assert not is_receipt(b"[" * 100_000)
    assert not is_receipt(b'{"seed": 1}')


async def test_the_command_compares_with_the_ledger(scene: Scene, tmp_path: Path) -> None:
    path, receipt = tmp_path / "receipt.json", await scene.get(scene.ended, "alice")
    path.write_text(json.dumps(receipt), encoding="utf-8")
    url = str(scene.settings.database_url)
    done = hongbao("verify", path, HONGBAO_DATABASE_URL=url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"receipt {scene.ended}: its hash matches its facts, and each fact matches the ledger\n"
    path.write_text(json.dumps(rehashed({"facts": {**receipt["facts"], "returned_fen": 4_000}})), encoding="utf-8")
    done = hongbao("verify", path, HONGBAO_DATABASE_URL=url)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == f"receipt {scene.ended}: returned_fen is 4000 in the receipt, 3000 in the ledger\n"
    done = hongbao("verify", path, "--json", HONGBAO_DATABASE_URL=url)
    assert (done.returncode, json.loads(done.stdout)["holds"]) == (1, False)


async def test_without_the_ledger_the_command_says_so(scene: Scene, tmp_path: Path) -> None:
    path = tmp_path / "receipt.json"
    path.write_text(json.dumps(await scene.get(scene.ended, "alice")), encoding="utf-8")
    said = sentence(hongbao("verify", path, HONGBAO_DATABASE_URL="postgresql://127.0.0.1:1/none"))
    assert said.startswith("The receipt could not be compared with the ledger: Postgres does not answer")
    said = sentence(hongbao("verify", path, "--data-dir", tmp_path / "nothing"))
    assert "HONGBAO_DATABASE_URL is not set" in said
    assert "a proof" in sentence(hongbao("verify", path, "--commitment", "0" * 64))


class Page(HTMLParser):
    """The text of a page, and its tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.tags = "", set[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not {"src", "href", "onload", "style"} & {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_the_page_is_printed_and_nothing_in_it_runs(scene: Scene) -> None:
    answer = await scene.page(scene.ended, "alice")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["vary"] == "accept"
    page = Page(answer.text)
    assert "script" not in page.tags
    assert HOSTILE in page.text  # as text
    for shown in ("电子回单", "Electronic receipt", scene.ended, "50.00", "20.00", "30.00", "2 / 5", "已过期"):
        assert shown in page.text
    assert "@media print" in page.text
    assert (await scene.get(scene.ended, "alice"))["hash"] in page.text
    received = await scene.page(scene.ended, "bob")
    assert yuan(1_000) in received.text
    assert "50.00" not in received.text


async def test_the_page_uses_its_own_style_alone(scene: Scene) -> None:
    answer = await scene.page(scene.ended, "alice")
    style = answer.text.partition("<style>")[2].partition("</style>")[0]
    digest = hashlib.sha256(style.encode()).digest()
    allowed = answer.headers["content-security-policy"]
    assert allowed.startswith("default-src 'none'; style-src 'sha256-")
    assert base64.b64encode(digest).decode() in allowed


async def test_the_query_goes_before_the_header(scene: Scene) -> None:
    path, alice = f"/v1/transactions/{scene.ended}/receipt", scene.client.as_user("alice")
    html = alice | {"accept": "text/html"}
    kinds = [
        (await scene.client.http.get(path, headers=headers, params=query)).headers["content-type"].partition(";")[0]
        for headers, query in (
            (alice, {}),
            (html, {}),
            (html, {"format": "json"}),
            (alice, {"format": "html"}),
        )
    ]
    assert kinds == ["application/json", "text/html", "application/json", "text/html"]


@pytest.mark.parametrize(
    ("accept", "is_page"),
    [
        ("", False),
        ("*/*", False),
        ("text/html", True),
        ("TEXT/HTML ; q=0.2", True),
        ("application/json, text/html", False),
        ("application/json;q=0.5, text/html", True),
        ("text/html;q=0", False),
        ("text/html;q=nan", False),
        ("text/html;q=٣", False),
        (",;,;;q=", False),
    ],
)
def test_what_a_header_prefers(accept: str, is_page: bool) -> None:
    assert prefers_page(accept) is is_page
