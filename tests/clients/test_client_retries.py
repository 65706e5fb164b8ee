"""The steps of a call, whatever comes back: bounded in tries and time; what is in doubt is repeated only if safe."""

import json
from dataclasses import dataclass, field

import httpx
import pytest
from hongbao_client import HongbaoError, Retries
from hongbao_client.errors import CLASSES, REPEATED, REPEATED_IF_SAFE
from hongbao_client.exchange import Outcome, Pause, Renew, Send, exchange, retry_after_s
from hongbao_client.models import SentAnswer, Wallet
from hongbao_client.operations import Call, Lost, Operation, Repeat, Reply
from hypothesis import given
from hypothesis import strategies as st

CODES = sorted(code for codes in CLASSES.values() for code in codes)
BOUNDS = st.builds(
    Retries,
    tries_max=st.integers(1, 12),
    deadline_s=st.floats(0.1, 60),
    timeout_s=st.floats(0.1, 20),
    backoff_s=st.floats(0, 1),
    backoff_s_max=st.floats(1, 30),
)
DRAWS = st.floats(0, 1)
SENT = b'{"packet_id":"1","state":"open","total_fen":1,"count":1,"expires_at_ms":1,"commitment":"c"}'
OK = Reply(201, {}, SENT)


def problem(code: str, status: int, **headers: str) -> Reply:
    """An answer of the server's."""
    body = {"type": f"urn:hongbao:problem:{code}", "title": "", "status": status, "detail": "", "code": code}
    return Reply(status, headers, json.dumps(body).encode())


WAITS = st.none() | st.integers(0, 40)
LOST = st.builds(Lost, st.just(httpx.ReadTimeout("slow")), st.booleans())
PROBLEMS = st.builds(
    lambda code, status, wait: problem(code, status, **({} if wait is None else {"retry-after": str(wait)})),
    st.sampled_from(CODES),
    st.sampled_from([400, 401, 403, 404, 408, 409, 422, 423, 429, 500, 503]),
    WAITS,
)
FROM_BETWEEN = st.builds(Reply, st.sampled_from([302, 403, 429, 502, 503, 504]))
REFUSED_TOKENS = st.just(problem("unauthorized", 401))
OUTCOMES = st.lists(LOST | PROBLEMS | FROM_BETWEEN | REFUSED_TOKENS, max_size=15)


@dataclass
class Played:
    """What happened in a call. ``asked``: what the server was sent, by what came back."""

    pauses: list[float] = field(default_factory=list)
    asked: list[Outcome] = field(default_factory=list)
    renewed: int = 0
    took_s: float = 0.0
    error: HongbaoError | None = None


def play(call: Call[SentAnswer], retries: Retries, outcomes: list[Outcome], draw: float = 0.5) -> Played:
    """Do a call's steps with these outcomes and then a success; each takes as long as it may."""
    played, left = Played(), [*outcomes]
    steps = exchange(call, retries, now_s=lambda: played.took_s, draw=lambda: draw)
    outcome: Outcome = None
    try:
        step = next(steps)
        while True:
            match step:
                case Renew(refused):
                    played.renewed += refused is not None
                    outcome = f"token-{played.renewed}"
                case Pause(seconds):
                    played.pauses.append(seconds)
                    played.took_s += seconds
                    outcome = None
                case Send(_, timeout_s):
                    assert 0 < timeout_s <= retries.timeout_s
                    outcome = left.pop(0) if left else OK
                    played.took_s += timeout_s if isinstance(outcome, Lost) else 0.0
                    played.asked.append(outcome)
            step = steps.send(outcome)
    except StopIteration:
        pass
    except HongbaoError as error:
        played.error = error
    return played


def call_of(repeat: Repeat, method: str = "POST") -> Call[SentAnswer]:
    return Operation("send_packet", method, "/v1/packets", SentAnswer, repeat).call()


@given(BOUNDS, OUTCOMES, DRAWS, st.sampled_from(Repeat))
def test_tries_and_time_are_bounded(retries: Retries, outcomes: list[Outcome], draw: float, repeat: Repeat) -> None:
    played = play(call_of(repeat), retries, outcomes, draw)
    assert len(played.asked) - played.renewed <= retries.tries_max
    assert played.renewed <= 1
    assert played.took_s <= retries.deadline_s + 0.01
    if played.error is not None:
        assert played.error.tries == len(played.asked)


@given(BOUNDS, st.integers(1, 200), WAITS, DRAWS)
def test_a_pause_is_at_least_what_is_asked_for_and_bounded(
    retries: Retries, tries: int, wait_s: int | None, draw: float
) -> None:
    floor_s = wait_s or 0
    pause_s = retries.pause_s(tries, wait_s, lambda: draw)
    assert floor_s <= pause_s <= floor_s + min(retries.backoff_s_max, retries.backoff_s * 2.0 ** min(tries - 1, 30))


@given(BOUNDS, OUTCOMES)
def test_what_must_not_be_repeated_is_sent_again_only_if_it_was_not_carried_out(
    retries: Retries, outcomes: list[Outcome]
) -> None:
    played = play(call_of(Repeat.WHEN_UNDONE), retries, outcomes)
    for outcome in played.asked[:-1]:
        if isinstance(outcome, Lost):
            assert not outcome.was_sent
        else:
            assert isinstance(outcome, Reply)
            code = json.loads(outcome.body)["code"] if outcome.body else ""
            assert code in {*REPEATED, "unauthorized"} or outcome.status in (401, 429)


@given(BOUNDS, OUTCOMES, st.sampled_from(Repeat))
def test_an_error_says_whether_it_may_have_happened(retries: Retries, outcomes: list[Outcome], repeat: Repeat) -> None:
    played = play(call_of(repeat), retries, outcomes)
    if played.error is not None:
        sent = [outcome for outcome in played.asked if isinstance(outcome, Lost) and outcome.was_sent]
        codes = {
            json.loads(outcome.body)["code"]
            for outcome in played.asked
            if isinstance(outcome, Reply) and outcome.body and outcome.status < 500
        }
        if sent or codes & REPEATED_IF_SAFE:
            assert played.error.may_have_happened
        question = play(call_of(Repeat.ALWAYS, "GET"), retries, outcomes)
        assert question.error is None or not question.error.may_have_happened


@given(st.lists(st.sampled_from(sorted(REPEATED | REPEATED_IF_SAFE)), max_size=4))
def test_what_has_a_key_is_repeated_through_whatever_passes(codes: list[str]) -> None:
    outcomes: list[Outcome] = [problem(code, 503) for code in codes]
    played = play(call_of(Repeat.WITH_KEY), Retries(), outcomes)
    assert (played.error, len(played.asked)) == (None, len(codes) + 1)


def test_a_wait_beyond_the_deadline_is_the_callers() -> None:
    played = play(call_of(Repeat.WITH_KEY), Retries(deadline_s=5), [problem("busy", 503, **{"retry-after": "6"})])
    assert played.pauses == []
    assert played.error is not None
    assert getattr(played.error, "retry_after_s", None) == 6.0


def test_each_new_call_has_a_key_of_its_own() -> None:
    operation = Operation("send_packet", "POST", "/v1/packets", SentAnswer, Repeat.WITH_KEY)
    assert len({operation.call().key for _ in range(100)}) == 100
    assert operation.call(key="mine").key == "mine"
    assert Operation("claim", "POST", "/c", SentAnswer, Repeat.ALWAYS).call().key is None


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("0", 0.0),
        ("17", 17.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("９", None),
        ("Wed, 21 Oct 99999999999 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_forms(text: str, wait_s: float | None) -> None:
    assert retry_after_s({"retry-after": text}) == wait_s


def test_a_newer_servers_words_are_no_error() -> None:
    steps = exchange(call_of(Repeat.WITH_KEY), Retries(tries_max=1))
    next(steps)
    steps.send("token")
    with pytest.raises(HongbaoError, match="a_new_code") as raised:
        steps.send(Reply(409, {}, b'{"code": "a_new_code", "detail": "x", "more": {"a": []}}'))
    assert type(raised.value).__name__ == "RefusedError"
    body = b'{"packet_id":"1","state":"frosted","total_fen":1,"count":1,"expires_at_ms":1,"commitment":"c","new":[1]}'
    sent = call_of(Repeat.WITH_KEY).operation.read(body)
    assert (sent.state, sent.state.value, sent.state == "frosted") == ("frosted", "frosted", True)


WALLET = b'{"user_id": "a", "balance_fen": 1, "currency": "CNY", "scale": 2}'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        *(WALLET.replace(b"1", wrong) for wrong in (b'"1"', b"1.0", b"true", b"null", b"1e0")),
    ],
)
def test_an_amount_is_a_whole_number_or_no_answer(body: bytes) -> None:
    get_wallet = Operation("get_wallet", "GET", "/w", Wallet, Repeat.ALWAYS)
    assert get_wallet.read(WALLET).balance_fen == 1
    with pytest.raises(HongbaoError, match="not as documented"):
        get_wallet.read(body)


def test_bounds_that_are_none_are_refused() -> None:
    for wrong in ({"tries_max": 0}, {"deadline_s": 0}, {"backoff_s": 2, "backoff_s_max": 1}, {"timeout_s": -1}):
        with pytest.raises(ValueError, match="must be"):
            Retries(**wrong)
