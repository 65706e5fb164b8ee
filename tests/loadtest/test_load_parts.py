"""The parts of the load test that need no locust: where it goes, as whom, what answers mean, who hears of what."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.access.keyring import Keyring, Secret
from engine.access.tokens import Verifier
from engine.errors import OperatorError
from loadtest.load.board import Announcement, Board
from loadtest.load.identities import Given, Identities
from loadtest.load.targets import checked_url
from loadtest.load.verdicts import Failed, Refused, check_packet, judge
from loadtest.told import ContradictionError, Told

SECRET = "s" * 32


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.9.9.9/", "http://127.9.9.9"),
        ("http://[::1]:80", "http://[::1]:80"),
        ("https://localhost", "https://localhost"),
    ],
)
def test_this_machine_may_be_loaded(url: str, checked: str) -> None:
    assert checked_url(url) == checked


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1", "http://127.0.0.1.example.org", "http://localhost.example.org", "http://0.0.0.0:80"]
)
def test_another_machine_may_not_unless_it_is_named(url: str) -> None:
    host = url.removeprefix("http://").removesuffix(":80")
    for allowed in (None, "", "127.0.0.1", f"x{host}"):
        with pytest.raises(OperatorError, match="another"):
            checked_url(url, allowed)
    assert checked_url(url, host) == url


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:8080", "ftp://127.0.0.1", "http://", "http://127.0.0.1:x", "http://127.0.0.1/v1", "http://[::1"],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(OperatorError, match="not the URL of a server"):
        checked_url(url)


def test_tokens_of_an_installation_are_made_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HONGBAO_AUTH_SECRET", raising=False)
    (tmp_path / "auth-secrets").mkdir()
    (tmp_path / "auth-secrets" / "0").write_text(SECRET, encoding="utf-8")
    (tmp_path / "auth-secrets" / "0").chmod(0o600)
    identities = Identities(Given(data_dir=tmp_path))
    user, admin = identities.of("alice"), identities.of_admin()
    assert admin is not None
    verifier = Verifier(Keyring([Secret(None, SECRET.encode())]))
    assert verifier.verify(user["Authorization"].removeprefix("Bearer ").encode()).user_id == "alice"
    assert "admin" in verifier.verify(admin["Authorization"].removeprefix("Bearer ").encode()).scopes


def test_a_backend_speaks_for_all() -> None:
    identities = Identities(Given(act_token="backend", admin_token="bank"))
    assert identities.of("alice") == {"Authorization": "Bearer backend", "X-User-Id": "alice"}
    assert identities.of_admin() == {"Authorization": "Bearer bank"}


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HONGBAO_AUTH_SECRET", raising=False)
    with pytest.raises(OperatorError, match=r"--data-dir.*--act-token"):
        Identities(Given(data_dir=tmp_path))
    assert not list(tmp_path.iterdir()), "a secret was made that no server knows"
    with pytest.raises(OperatorError, match=r"--admin-token.*--funded-senders"):
        Identities(Given(act_token="backend"))
    assert Identities(Given(act_token="backend", funded_senders=("rich",))).of_admin() is None


def test_losing_is_an_answer_refusals_are_honoured_and_the_rest_fails() -> None:
    lost = orjson.dumps({"outcome": "sold_out"})
    assert judge(200, None, lost, expected=200) == {"outcome": "sold_out"}
    busy = orjson.dumps({"code": "busy"})
    assert judge(503, "2", busy, expected=200) == Refused(2.0)
    assert judge(503, None, busy, expected=200) == Failed("503 busy")
    assert judge(503, "soon", busy, expected=200) == Failed("503 busy")
    assert judge(0, None, None, expected=200) == Failed("no answer")
    assert judge(500, None, b"<html>", expected=200) == Failed("500 with a body that is not JSON")
    assert judge(200, None, b"[]", expected=200) == Failed("200 with JSON that is not an object")
    assert judge(200, None, lost, expected=201) == Failed("200 without a code")


def answer(outcome: str, amount_fen: int = 0) -> dict[str, Any]:
    return {"outcome": outcome, "amount_fen": amount_fen, "packet_id": "1", "user_id": "alice"}


@pytest.mark.parametrize(
    "answers",
    [
        [answer("claimed", 5), answer("already_claimed", 5), answer("already_claimed", 5)],
        [answer("already_claimed", 5), answer("already_claimed", 5)],  # the first answer was lost on the way
        [answer("sold_out"), answer("sold_out")],
        [answer("expired")],
        [answer("retracted")],
    ],
)
def test_answers_that_agree(answers: list[dict[str, Any]]) -> None:
    told = Told(remembered_max=64, in_order=True)
    for one in answers:
        told.claim("1", "alice", one)


@pytest.mark.parametrize(
    "answers",
    [
        [answer("claimed", 5), answer("already_claimed", 6)],
        [answer("claimed", 5), answer("claimed", 5)],
        [answer("claimed", 5), answer("sold_out")],
        [answer("sold_out", 5)],
        [answer("claimed", 0)],
        [answer("lost")],
        [{**answer("claimed", 5), "user_id": "bob"}],
        [{**answer("claimed", 5), "amount_fen": 5.0}],
        [{}],
    ],
)
def test_answers_that_contradict(answers: list[dict[str, Any]]) -> None:
    told = Told(remembered_max=64, in_order=True)
    for one in answers[:-1]:
        told.claim("1", "alice", one)
    with pytest.raises(ContradictionError, match="alice"):
        told.claim("1", "alice", answers[-1])


def test_answers_that_overtook_each_other_agree_and_other_amounts_or_outcomes_do_not() -> None:
    told = Told(remembered_max=None, in_order=False)
    for one in (answer("already_claimed", 5), answer("claimed", 5)):
        told.claim("1", "alice", one)
    for other in (answer("claimed", 6), answer("sold_out")):
        with pytest.raises(ContradictionError, match="alice got 5 fen of packet 1 in an answer, and then"):
            told.claim("1", "alice", other)


def test_the_list_of_claims_is_held_against_what_was_told() -> None:
    told = Told(remembered_max=64, in_order=True)
    told.claim("1", "alice", answer("claimed", 5))
    row = {"user_id": "alice", "amount_fen": 5}
    told.listed("1", "alice", {"claims": [row, {"user_id": "bob", "amount_fen": 7}]})
    for rows in ([row, row], [{**row, "amount_fen": 6}]):
        with pytest.raises(ContradictionError, match="alice"):
            told.listed("1", "alice", {"claims": rows})


def test_a_packet_is_held_against_its_terms() -> None:
    counts = {"claimed_count": 4, "remaining_count": 6, "claimed_fen": 30, "remaining_fen": 70}
    view: dict[str, Any] = {"packet_id": "1", "total_fen": 100, "count": 10, **counts}
    check_packet(100, 10, view)
    for name in ("total_fen", "count", *counts):
        with pytest.raises(ContradictionError, match="Packet 1"):
            check_packet(100, 10, {**view, name: view[name] + 1})
    with pytest.raises(ContradictionError, match="Packet 1"):
        check_packet(100, 10, {**view, "claimed_count": -1, "remaining_count": 11})


@given(st.lists(st.sampled_from([None, 0, 1]), max_size=40))
def test_a_member_hears_of_its_groups_newest_packets_in_order_and_once(groups: list[int | None]) -> None:
    board = Board()
    for number, group in enumerate(groups):
        board.announce(Announcement(f"p{number}", group))
    for group in (0, 1):
        heard, seen = [], 0
        while (found := board.next_for(group, seen)) is not None:
            seen, packet_id = found
            heard.append(packet_id)
        assert heard == [f"p{number}" for number, to in enumerate(groups) if to == group][-8:]
    rains = [f"p{number}" for number, to in enumerate(groups) if to is None]
    assert board.rain == (rains[-1] if rains else None)
