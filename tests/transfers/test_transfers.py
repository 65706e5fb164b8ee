"""Transfers: confirmed, returned, delayed, arrived, cancelled; to strangers; and of two that want one, one wins."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from engine.calendar.china_time import day_of, today
from engine.engine import Engine
from engine.errors import (
    FrozenError,
    InvalidFieldsError,
    NotArrivedError,
    NotCancellableError,
    NotSenderError,
    RecoveringError,
    TooManyChangesError,
    TransferEndedError,
    UnknownPacketError,
    WrongPaymentPasswordError,
)
from engine.ids import lane_of
from engine.lanes import keys
from engine.lanes.clients import command
from engine.records import ClaimResult, Outcome
from engine.settings import Settings
from engine.transfers.transfers import Transfer, TransferState
from tests.support.days import whole_day
from tests.support.front import Client, Json, new_key, open_front
from tests.support.races import Race
from tests.support.scenes import (
    assert_books_balance,
    caught_up,
    changed,
    fund,
    let_time_run_out,
    persisting,
    send,
    settled,
    sweeping,
)
from tests.support.waiting import wait_until

TWO_HOURS_S, A_DAY_S = 7_200, 86_400


@pytest.fixture
async def front(settings: Settings) -> AsyncIterator[Client]:
    async with open_front(settings) as client:
        yield client


async def are_known(engine: Engine, settings: Settings, one: str, other: str) -> None:
    """Let two people have dealt with each other before."""
    sent = await send(engine, one, total_fen=1, count=1)
    await engine.claims.claim(sent.packet_id, other)
    async with persisting(settings):
        await settled(engine, sent.packet_id)


async def transfer(
    engine: Engine,
    sender: str = "alice",
    to: str = "bob",
    amount_fen: int = 50_000,
    **how: Any,  # noqa: ANN401 - those of ``Transfers.send``
) -> Transfer:
    """Transfer what the sender was given the money for."""
    await fund(engine, sender, amount_fen)
    sent, _ = await engine.transfers.send(
        sender, to, amount_fen, idempotency_key=uuid4().hex, request_hash=b"transfer", **how
    )
    return sent


async def arrive(engine: Engine, transfer_id: str) -> None:
    """Let a transfer's time of arrival come now, for the scripts and for the sweeper."""
    await engine.pool.execute("UPDATE packets SET arrives_at_ms = 1 WHERE packet_id = $1", int(transfer_id))
    await command(engine.redis, "HSET", keys.packet(transfer_id), "arrives_at_ms", 1)
    await command(engine.redis, "ZADD", keys.due(lane_of(transfer_id)), "XX", 1, transfer_id)


async def balances(engine: Engine, *users: str) -> list[int]:
    return [(await engine.wallets.get(user)).balance_fen for user in users]


async def test_a_transfer_is_over_by_the_clock_though_no_sweeper_came(engine: Engine, settings: Settings) -> None:
    """Its money is on its way back, and no sentence says that it is there."""
    await are_known(engine, settings, "alice", "bob")
    short = Settings.model_copy(settings, update={"transfer_confirm_s_short": 1})
    async with Engine.open(short) as hasty:
        sent = await transfer(hasty, confirm_within_s=1)
        assert sent.state is TransferState.WAITING

        async def is_over() -> bool:
            return await hasty.store.now_ms(0) >= sent.expires_at_ms

        await wait_until(is_over, what="the end of its time")
        for user in ("alice", "bob"):
            assert (await hasty.transfers.get(sent.transfer_id, user)).state is TransferState.RETURNED
        with pytest.raises(TransferEndedError, match="not confirmed in time; its money goes back to the sender"):
            await hasty.transfers.confirm(sent.transfer_id, "bob")
        assert await balances(hasty, "alice") == [0]


async def test_over_http_from_sending_to_confirming(front: Client, settings: Settings) -> None:
    async with Engine.open(settings) as engine:
        await are_known(engine, settings, "alice", "bob")
    await front.deposit("alice", 60_000)
    body: Json = {"to": "bob", "amount_fen": 60_000, "confirm_within_s": 120, "note": "房租"}
    key = new_key()
    sent = await front.http.post("/v1/transfers", json=body, headers=front.as_user("alice") | key)
    assert sent.status_code == 201, sent.text
    told = sent.json()
    assert (told["state"], told["to"], told["note"], told["arrives_at_ms"]) == ("waiting", "bob", "房租", None)
    assert told["expires_at_ms"] - told["created_at_ms"] == 120_000
    assert len(told["transfer_id"]) == 19
    assert told["transfer_id"].startswith("10")
    again = await front.http.post("/v1/transfers", json=body, headers=front.as_user("alice") | key)
    assert (again.json(), again.headers["idempotency-replayed"]) == (told, "true")
    path = f"/v1/transfers/{told['transfer_id']}"
    hidden = [await front.http.get(path, headers=front.as_user("eve"))]
    hidden += [
        await front.http.post(f"{path}/{what}", headers=front.as_user("eve"))
        for what in ("confirmation", "cancellation")
    ]
    assert {(answer.status_code, answer.json()["code"]) for answer in hidden} == {(404, "unknown_packet")}
    for _ in range(2):
        confirmed = await front.http.post(f"{path}/confirmation", headers=front.as_user("bob"))
        assert (confirmed.status_code, confirmed.json()["state"]) == (200, "confirmed")
    async with persisting(settings), Engine.open(settings) as engine:
        await settled(engine, told["transfer_id"])
        assert await balances(engine, "alice", "bob") == [0, 60_001]
        await assert_books_balance(engine.pool)
    seen = await front.http.get(path, headers=front.as_user("alice"))
    assert seen.json() == confirmed.json()
    late = await front.http.post(f"{path}/cancellation", headers=front.as_user("alice"))
    assert (late.status_code, late.json()["code"]) == (409, "not_cancellable")


async def test_what_is_not_confirmed_goes_back(engine: Engine, settings: Settings) -> None:
    await are_known(engine, settings, "alice", "bob")
    sent = await transfer(engine, confirm_within_s=120)
    async with persisting(settings), sweeping(settings):
        await let_time_run_out(engine, sent.transfer_id)
        await settled(engine, sent.transfer_id)
    with pytest.raises(TransferEndedError, match="not confirmed in time"):
        await engine.transfers.confirm(sent.transfer_id, "bob")
    assert (await engine.transfers.get(sent.transfer_id, "alice")).state is TransferState.RETURNED
    assert await balances(engine, "alice", "bob") == [50_000, 1]


async def test_a_delayed_transfer_arrives_by_itself(engine: Engine, settings: Settings) -> None:
    sent = await transfer(engine, arrives_after_s=TWO_HOURS_S)
    assert sent.state is TransferState.DELAYED
    assert sent.arrives_at_ms == sent.created_at_ms + TWO_HOURS_S * 1000
    assert sent.expires_at_ms == sent.arrives_at_ms + A_DAY_S * 1000
    with pytest.raises(NotArrivedError):
        await engine.transfers.confirm(sent.transfer_id, "bob")
    with pytest.raises(NotArrivedError):
        await engine.claims.claim(sent.transfer_id, "bob")
    async with persisting(settings), sweeping(settings):
        await arrive(engine, sent.transfer_id)
        await settled(engine, sent.transfer_id)
    assert (await engine.transfers.get(sent.transfer_id, "bob")).state is TransferState.CONFIRMED
    assert await balances(engine, "alice", "bob") == [0, 50_000]
    await assert_books_balance(engine.pool)


async def test_until_it_arrives_its_sender_can_cancel_it(engine: Engine, settings: Settings) -> None:
    sent, late = [await transfer(engine, arrives_after_s=A_DAY_S) for _ in range(2)]
    query = "UPDATE packets SET created_at_ms = created_at_ms - 3600000 WHERE packet_id = $1"
    await engine.pool.execute(query, int(sent.transfer_id))  # five minutes do not matter here
    with pytest.raises(NotSenderError):
        await engine.transfers.cancel(sent.transfer_id, "bob")
    for _ in range(2):
        assert (await engine.transfers.cancel(sent.transfer_id, "alice")).state is TransferState.CANCELLED
    with pytest.raises(TransferEndedError, match="cancelled"):
        await engine.transfers.confirm(sent.transfer_id, "bob")
    await arrive(engine, late.transfer_id)
    with pytest.raises(NotCancellableError, match="too late"):
        await engine.transfers.cancel(late.transfer_id, "alice")
    async with persisting(settings), sweeping(settings):
        await settled(engine, sent.transfer_id, late.transfer_id)
    assert await balances(engine, "alice", "bob") == [50_000, 50_000]
    await assert_books_balance(engine.pool)


@pytest.mark.parametrize("is_in_ledger", [False, True])
async def test_a_cancellation_repeated_after_a_freeze_is_answered_as_before(
    engine: Engine, settings: Settings, is_in_ledger: bool
) -> None:
    sent = await transfer(engine, arrives_after_s=A_DAY_S)
    first = await engine.transfers.cancel(sent.transfer_id, "alice")
    if is_in_ledger:
        async with persisting(settings):
            await settled(engine, sent.transfer_id)
    await engine.freezes.freeze("alice", reason="test", frozen_by="root")
    assert await engine.transfers.cancel(sent.transfer_id, "alice") == first


async def test_what_waits_can_be_called_off_for_five_minutes(engine: Engine, settings: Settings) -> None:
    await are_known(engine, settings, "alice", "bob")
    young, old = [await transfer(engine) for _ in range(2)]
    assert young.state is TransferState.WAITING
    assert young.expires_at_ms - young.created_at_ms == A_DAY_S * 1000
    query = "UPDATE packets SET created_at_ms = created_at_ms - 301000 WHERE packet_id = $1"
    await engine.pool.execute(query, int(old.transfer_id))
    assert (await engine.transfers.cancel(young.transfer_id, "alice")).state is TransferState.CANCELLED
    with pytest.raises(NotCancellableError):
        await engine.transfers.cancel(old.transfer_id, "alice")
    assert (await engine.transfers.confirm(old.transfer_id, "bob")).state is TransferState.CONFIRMED


async def test_to_a_stranger_nothing_arrives_at_once(engine: Engine, settings: Settings) -> None:
    with pytest.raises(InvalidFieldsError, match=r"confirm_within_s: must not be given: .*stranger"):
        await transfer(engine, confirm_within_s=120)
    first = await transfer(engine)
    assert (first.state, first.arrives_at_ms) == (TransferState.DELAYED, first.created_at_ms + TWO_HOURS_S * 1000)
    async with persisting(settings), sweeping(settings):
        await arrive(engine, first.transfer_id)
        await settled(engine, first.transfer_id)
    assert (await transfer(engine)).state is TransferState.WAITING
    # They are no strangers either way round; others still are.
    assert (await transfer(engine, "bob", "alice", confirm_within_s=120)).state is TransferState.WAITING
    assert (await transfer(engine, "bob", "carol")).state is TransferState.DELAYED


async def test_the_choice_of_when_it_arrives(front: Client, settings: Settings) -> None:
    path, me = "/v1/wallets/alice/arrival-delay", front.as_user("alice")

    async def choose(arrives_after_s: int, **more: object) -> httpx.Response:
        return await front.http.put(path, json={"arrives_after_s": arrives_after_s, **more}, headers=me)

    assert (await front.http.get(path, headers=me)).json() == {"user_id": "alice", "arrives_after_s": 0}
    assert (await choose(60)).json()["errors"][0]["field"] == "arrives_after_s"
    assert (await choose(A_DAY_S)).json()["errors"][0]["field"] == "payment_password"
    assert (await choose(A_DAY_S, payment_password="123456")).json()["code"] == "no_payment_password"
    assert (await front.http.put(path, json={"arrives_after_s": 0}, headers=front.as_user("eve"))).status_code == 403
    assert (await choose(TWO_HOURS_S)).json() == {"user_id": "alice", "arrives_after_s": TWO_HOURS_S}
    async with Engine.open(settings) as engine:
        await are_known(engine, settings, "alice", "bob")
        assert (await transfer(engine)).state is TransferState.DELAYED
        assert (await transfer(engine, confirm_within_s=120)).state is TransferState.WAITING
        await engine.payment_passwords.put("alice", "123456", None)
        with pytest.raises(WrongPaymentPasswordError):
            await engine.delays.choose("alice", A_DAY_S, "654321")
        await engine.delays.choose("alice", A_DAY_S, "123456")
        sent = await transfer(engine)
        assert sent.arrives_at_ms == sent.created_at_ms + A_DAY_S * 1000


async def test_the_choice_is_changed_three_times_a_month(engine: Engine) -> None:
    await whole_day()
    for arrives_after_s in (TWO_HOURS_S, TWO_HOURS_S, 0, TWO_HOURS_S):  # what holds already is no change
        await engine.delays.choose("alice", arrives_after_s, None)
    with pytest.raises(TooManyChangesError) as caught:
        await engine.delays.choose("alice", 0, None)
    assert day_of(caught.value.until_ms - 1).month == today().month
    assert day_of(caught.value.until_ms).day == 1
    await engine.delays.choose("bob", TWO_HOURS_S, None)
    await engine.pool.execute("UPDATE arrival_delays SET changed_at_ms = changed_at_ms - 32 * 86400000::bigint")
    await engine.delays.choose("alice", 0, None)


async def test_changes_at_the_same_time_are_counted_one_by_one(engine: Engine) -> None:
    await whole_day()
    choices = [engine.delays.choose("alice", number % 2 * TWO_HOURS_S, None) for number in range(1, 11)]
    done = await asyncio.gather(*choices, return_exceptions=True)
    assert all(result is None or isinstance(result, TooManyChangesError) for result in done)
    assert await engine.pool.fetchval("SELECT count(*) FROM arrival_delays") <= 3


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"to": "alice"}, "to"),
        ({"to": "a b"}, "to"),
        ({"amount_fen": 0}, "amount_fen"),
        ({"amount_fen": 20_000_001}, "amount_fen"),
        ({"note": "x" * 201}, "note"),
        ({"note": "\u0007"}, "note"),
        ({"confirm_within_s": 121}, "confirm_within_s"),
        ({"arrives_after_s": 1}, "arrives_after_s"),
        ({"confirm_within_s": 120, "arrives_after_s": TWO_HOURS_S}, "confirm_within_s"),
    ],
)
async def test_a_bad_field_is_named(front: Client, body: Json, field: str) -> None:
    good: Json = {"to": "bob", "amount_fen": 100}
    answer = await front.http.post("/v1/transfers", json=good | body, headers=front.as_user("alice") | new_key())
    assert (answer.status_code, {error["field"] for error in answer.json()["errors"]}) == (422, {field})


async def test_too_little_money_is_told_of_its_amount(front: Client) -> None:
    body: Json = {"to": "bob", "amount_fen": 100}
    answer = await front.http.post("/v1/transfers", json=body, headers=front.as_user("alice") | new_key())
    assert (answer.status_code, answer.json()["code"]) == (409, "insufficient_funds")
    assert [error["field"] for error in answer.json()["errors"]] == ["amount_fen"]


async def test_a_packet_is_no_transfer_and_a_transfer_no_packet_to_take_back(engine: Engine) -> None:
    packet, sent = await send(engine, count=1, recipients=["bob"]), await transfer(engine)
    for call in (
        engine.transfers.get(packet.packet_id, "alice"),
        engine.transfers.confirm(packet.packet_id, "bob"),
        engine.transfers.cancel(packet.packet_id, "alice"),
        engine.retractions.retract(sent.transfer_id, "alice", confirmed=True),
        engine.retractions.view(sent.transfer_id, "bob"),
    ):
        with pytest.raises(UnknownPacketError):
            await call
    view = await engine.views.packet(sent.transfer_id)
    assert (view.purpose, view.arrives_at_ms) == ("transfer", sent.arrives_at_ms)


async def test_frozen_accounts_transfer_nothing_and_take_nothing(engine: Engine, settings: Settings) -> None:
    await are_known(engine, settings, "alice", "bob")
    sent, delayed = await transfer(engine), await transfer(engine, arrives_after_s=TWO_HOURS_S)
    for user in ("alice", "bob"):
        await engine.freezes.freeze(user, reason="a test", frozen_by="root")
    for call in (
        transfer(engine),
        engine.transfers.confirm(sent.transfer_id, "bob"),
        engine.transfers.cancel(sent.transfer_id, "alice"),
    ):
        with pytest.raises(FrozenError):
            await call
    # What arrives for a frozen account waits, and is looked at again until it can be given.
    async with persisting(settings), sweeping(settings):
        await arrive(engine, delayed.transfer_id)

        async def was_tried() -> bool:
            return bool(await engine.redis.zscore(keys.due(lane_of(delayed.transfer_id)), delayed.transfer_id) != 1)

        await wait_until(was_tried, what="the sweeper's try")
        assert (await engine.transfers.get(delayed.transfer_id, "bob")).state is TransferState.WAITING
        await engine.freezes.lift("bob", reason="it is over", lifted_by="root")
        await arrive(engine, delayed.transfer_id)
        await settled(engine, delayed.transfer_id)
    assert await balances(engine, "bob") == [50_001]


async def test_a_rebuilt_lane_still_holds_what_has_not_arrived(engine: Engine, settings: Settings) -> None:
    sent, thought_better = [await transfer(engine, arrives_after_s=TWO_HOURS_S) for _ in range(2)]
    async with persisting(changed(settings, recover_automatically=True)), sweeping(settings):
        await caught_up(engine)
        await engine.redis.flushall()

        async def is_held() -> bool:
            return bool(await engine.redis.hget(keys.packet(sent.transfer_id), "state") == b"held")

        await wait_until(is_held, timeout_s=20, what="the lane's rebuilding")

        async def is_cancelled() -> bool:
            try:
                transfer = await engine.transfers.cancel(thought_better.transfer_id, "alice")
            except RecoveringError:
                return False
            return transfer.state is TransferState.CANCELLED

        await wait_until(is_cancelled, timeout_s=20, what="the other one's cancellation")
        assert await engine.redis.zscore(keys.due(lane_of(sent.transfer_id)), sent.transfer_id) == sent.arrives_at_ms
        await arrive(engine, sent.transfer_id)
        await settled(engine, sent.transfer_id)
    assert await balances(engine, "bob") == [50_000]


@pytest.mark.long
async def test_of_a_confirmation_and_a_time_out_one_wins(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweeper is at work while each transfer's time runs out under its recipient's hands."""
    monkeypatch.setattr("engine.packets.sweeper.INTERVAL_S", 0.001)
    race = Race(3, rounds_min=60, wins_min=7)
    await are_known(engine, settings, "alice", "bob")
    async with persisting(settings), sweeping(settings):
        for _ in race.rounds():
            sent = await transfer(engine, amount_fen=100)

            async def confirm(transfer_id: str) -> bool:
                await race.wait_first()
                try:
                    return (await engine.transfers.confirm(transfer_id, "bob")).state is TransferState.CONFIRMED
                except TransferEndedError:
                    return False

            async def run_out(transfer_id: str) -> None:
                await race.wait_second()
                await let_time_run_out(engine, transfer_id)

            is_confirmed, _ = await asyncio.gather(confirm(sent.transfer_id), run_out(sent.transfer_id))
            race.won(by_first=is_confirmed)
            again = await engine.claims.claim(sent.transfer_id, "bob")
            assert again == (ClaimResult(Outcome.ALREADY, 100) if is_confirmed else ClaimResult(Outcome.EXPIRED, 0))
            await settled(engine, sent.transfer_id)
        confirmed, returned = race.first_won, race.second_won
        assert await balances(engine, "alice", "bob") == [returned * 100, confirmed * 100 + 1]
        await assert_books_balance(engine.pool)


@pytest.mark.long
async def test_of_an_arrival_and_a_cancellation_one_wins(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.packets.sweeper.INTERVAL_S", 0.001)
    race = Race(4, rounds_min=60, wins_min=7)
    async with persisting(settings), sweeping(settings):
        for _ in race.rounds():
            sent = await transfer(engine, amount_fen=100, arrives_after_s=TWO_HOURS_S)

            async def cancel(transfer_id: str) -> bool:
                await race.wait_first()
                try:
                    return (await engine.transfers.cancel(transfer_id, "alice")).state is TransferState.CANCELLED
                except NotCancellableError:
                    return False

            async def come(transfer_id: str) -> None:
                await race.wait_second()
                await arrive(engine, transfer_id)

            is_cancelled, _ = await asyncio.gather(cancel(sent.transfer_id), come(sent.transfer_id))
            race.won(by_first=is_cancelled)
            await settled(engine, sent.transfer_id)
            state = (await engine.transfers.get(sent.transfer_id, "bob")).state
            assert state is (TransferState.CANCELLED if is_cancelled else TransferState.CONFIRMED)
        cancelled, arrived = race.first_won, race.second_won
        assert await balances(engine, "alice", "bob") == [cancelled * 100, arrived * 100]
        await assert_books_balance(engine.pool)


async def test_a_statement_tells_transfers_from_packets(engine: Engine, settings: Settings) -> None:
    day = await whole_day()
    await are_known(engine, settings, "alice", "bob")
    taken, returned = await transfer(engine, amount_fen=300), await transfer(engine, amount_fen=500)
    await engine.transfers.confirm(taken.transfer_id, "bob")
    async with persisting(settings), sweeping(settings):
        await let_time_run_out(engine, returned.transfer_id)
        await settled(engine, taken.transfer_id, returned.transfer_id)
    told = {}
    for user in ("alice", "bob"):
        text = b"".join([part async for part in (await engine.statements.of(user, day, day)).as_csv()]).decode(
            "utf-8-sig"
        )
        told[user] = sorted(line.split(",")[4].strip("`") for line in text.splitlines()[1:-2])
    assert told == {
        "alice": sorted([*["充值"] * 3, "发出红包", "转出", "转出", "转账退回"]),
        "bob": ["转入", "领取红包"],
    }
