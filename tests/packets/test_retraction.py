"""Taking back: who may, until when, whose consent it needs, and that of a claim and a taking back one wins."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from engine.engine import Engine
from engine.errors import (
    ConsentRequiredError,
    FrozenError,
    InsufficientFundsError,
    LimitReachedError,
    NotRetractableError,
    NotSenderError,
    NotViewedError,
    OpeningError,
    RecoveringError,
    UnconfirmedError,
    UnknownPacketError,
)
from engine.ids import lane_of, new_packet_number
from engine.lanes.reader import LaneStatus
from engine.records import Ack, ClaimResult, Outcome, PacketState
from engine.recovery.recovery import mend
from engine.settings import Settings
from tests.support.front import Client, new_key, open_front
from tests.support.races import Race
from tests.support.scenes import (
    assert_books_balance,
    caught_up,
    changed,
    claimed,
    let_time_run_out,
    pay_only,
    persisting,
    send,
    settled,
    sweeping,
)
from tests.support.waiting import wait_until


@pytest.fixture
async def front(settings: Settings) -> AsyncIterator[Client]:
    async with open_front(settings) as client:
        yield client


async def post(front: Client, path: str, user: str, body: object = None) -> httpx.Response:
    return await front.http.post(f"/v1/packets/{path}", json=body, headers=front.as_user(user))


async def age(engine: Engine, packet_id: str, seconds: int) -> None:
    """Make a packet older than it is."""
    query = "UPDATE packets SET created_at_ms = created_at_ms - $2 WHERE packet_id = $1"
    await engine.pool.execute(query, int(packet_id), seconds * 1000)


async def test_an_untouched_packet_comes_back_whole(front: Client, settings: Settings) -> None:
    packet_id = await front.send("alice", total_fen=1_000)
    answer = await post(front, f"{packet_id}/retraction", "alice")
    assert (answer.status_code, answer.json()) == (
        200,
        {"packet_id": packet_id, "state": "retracted", "returned_fen": 1_000},
    )
    assert (await front.claim(packet_id, "bob"))["outcome"] == "retracted"
    assert (await post(front, f"{packet_id}/retraction", "alice")).json() == answer.json()
    async with persisting(settings), Engine.open(settings) as engine:
        await settled(engine, packet_id)
        assert (await engine.wallets.get("alice")).balance_fen == 1_000
        assert (await post(front, f"{packet_id}/retraction", "alice")).json() == answer.json()
        await assert_books_balance(engine.pool)


async def test_a_packet_somebody_has_seen_needs_their_consent(front: Client) -> None:
    packet_id = await front.send("alice", recipients=["bob", "carol"], count=2)
    noted = {"packet_id": packet_id, "user_id": "bob", "needs_consent": True}
    for _ in range(2):
        assert (await post(front, f"{packet_id}/views", "bob")).json() == noted
    assert (await post(front, f"{packet_id}/views", "alice")).json()["needs_consent"] is False
    answer = await post(front, f"{packet_id}/retraction", "alice", {})
    assert (answer.status_code, answer.json()["code"]) == (409, "consent_required")
    assert (await post(front, f"{packet_id}/views", "carol")).status_code == 200
    assert (await post(front, f"{packet_id}/retraction/consent", "bob")).json()["consents"] is True
    assert (await post(front, f"{packet_id}/retraction", "alice")).json()["code"] == "consent_required"
    assert (await post(front, f"{packet_id}/retraction/consent", "carol")).status_code == 200
    assert (await post(front, f"{packet_id}/retraction", "alice")).json()["state"] == "retracted"
    late = await post(front, f"{packet_id}/retraction/consent", "bob")
    assert (late.status_code, late.json()["code"]) == (409, "not_retractable")


async def test_only_who_has_seen_it_can_consent(engine: Engine) -> None:
    sent = await send(engine)
    with pytest.raises(NotViewedError):
        await engine.retractions.consent(sent.packet_id, "bob")


async def test_a_packet_that_more_have_seen_than_can_be_asked_stays(engine: Engine, settings: Settings) -> None:
    sent = await send(engine)
    users = [f"user{number}" for number in range(settings.retraction_viewers_max + 1)]
    for user in users:
        assert await engine.retractions.view(sent.packet_id, user)
    for user in users[:-1]:
        await engine.retractions.consent(sent.packet_id, user)
    with pytest.raises(NotViewedError):
        await engine.retractions.consent(sent.packet_id, users[-1])
    with pytest.raises(ConsentRequiredError):
        await engine.retractions.retract(sent.packet_id, "alice", confirmed=False)


async def test_a_large_packet_is_taken_back_by_saying_so_twice(front: Client) -> None:
    packet_id = await front.send("alice", total_fen=20_001, count=2)
    answer = await post(front, f"{packet_id}/retraction", "alice")
    assert (answer.status_code, answer.json()["code"]) == (409, "confirmation_required")
    assert answer.json()["errors"][0]["field"] == "confirm"
    assert (await post(front, f"{packet_id}/retraction", "alice", {"confirm": True})).json()["returned_fen"] == 20_001
    at_the_bound = await front.send("alice", total_fen=20_000, count=2)
    assert (await post(front, f"{at_the_bound}/retraction", "alice")).status_code == 200


async def test_after_five_minutes_only_the_system_gives_it_back(engine: Engine) -> None:
    sent, young = await send(engine), await send(engine)
    await age(engine, sent.packet_id, 301)
    await age(engine, young.packet_id, 200)
    with pytest.raises(NotRetractableError, match="too late"):
        await engine.retractions.retract(sent.packet_id, "alice", confirmed=False)
    assert await engine.retractions.view(sent.packet_id, "bob") is False  # nothing it could be needed for
    assert await engine.retractions.retract(young.packet_id, "alice", confirmed=False) == 1_000
    assert (await engine.claims.claim(sent.packet_id, "bob")).outcome is Outcome.CLAIMED


async def test_what_somebody_has_a_share_of_never_comes_back_before_its_time(engine: Engine) -> None:
    sent = await send(engine)
    await engine.claims.claim(sent.packet_id, "bob")
    with pytest.raises(NotRetractableError, match="has a share"):
        await engine.retractions.retract(sent.packet_id, "alice", confirmed=True)
    assert await engine.retractions.view(sent.packet_id, "carol") is False
    with pytest.raises(NotRetractableError):
        await engine.retractions.consent(sent.packet_id, "bob")


async def test_only_its_sender_can_and_others_do_not_learn_of_it(engine: Engine) -> None:
    for_anyone, for_bob = await send(engine), await send(engine, count=1, recipients=["bob"])
    with pytest.raises(NotSenderError):
        await engine.retractions.retract(for_anyone.packet_id, "bob", confirmed=True)
    with pytest.raises(NotSenderError):
        await engine.retractions.retract(for_bob.packet_id, "bob", confirmed=True)
    for call in (
        engine.retractions.retract(for_bob.packet_id, "eve", confirmed=True),
        engine.retractions.view(for_bob.packet_id, "eve"),
        engine.retractions.consent(for_bob.packet_id, "eve"),
        engine.retractions.view(new_packet_number(0), "eve"),
    ):
        with pytest.raises(UnknownPacketError):
            await call


async def test_a_packet_that_has_ended_otherwise_has_ended(engine: Engine, settings: Settings) -> None:
    ran_out, gone = await send(engine), await send(engine, count=1)
    await engine.claims.claim(gone.packet_id, "bob")
    await let_time_run_out(engine, ran_out.packet_id)
    async with persisting(settings), sweeping(settings):
        await settled(engine, ran_out.packet_id, gone.packet_id)
    for packet_id in (ran_out.packet_id, gone.packet_id):
        with pytest.raises(NotRetractableError):
            await engine.retractions.retract(packet_id, "alice", confirmed=False)


async def test_while_it_is_being_opened_nothing_is_decided(engine: Engine) -> None:
    packet_id = await pay_only(engine)
    for call in (
        engine.retractions.view(packet_id, "bob"),
        engine.retractions.retract(packet_id, "alice", confirmed=False),
    ):
        with pytest.raises(OpeningError):
            await call


async def test_of_a_rebuilt_packet_nobody_knows_who_has_seen_it(engine: Engine, settings: Settings) -> None:
    sent = await send(engine)
    async with persisting(settings):
        await caught_up(engine)
    await engine.redis.flushall()
    with pytest.raises(RecoveringError):
        await engine.retractions.retract(sent.packet_id, "alice", confirmed=False)
    for lane in engine.lanes:
        await mend(settings, engine.store, engine.stream, lane, force=False)

    async def refused() -> bool:
        try:
            await engine.retractions.retract(sent.packet_id, "alice", confirmed=False)
        except RecoveringError:
            return False
        except ConsentRequiredError:
            return True
        raise AssertionError("a packet that may have been seen was taken back")

    await wait_until(refused, what="the lane serving again")


async def test_a_frozen_account_takes_nothing_back(engine: Engine) -> None:
    sent = await send(engine)
    await engine.freezes.freeze("alice", reason="a test", frozen_by="root")
    with pytest.raises(FrozenError):
        await engine.retractions.retract(sent.packet_id, "alice", confirmed=False)
    await engine.freezes.lift("alice", reason="it is over", lifted_by="root")
    assert await engine.retractions.retract(sent.packet_id, "alice", confirmed=False) == 1_000


async def test_who_takes_back_too_often_cannot_send_for_a_day(engine: Engine, settings: Settings) -> None:
    packets = [(await send(engine)).packet_id for _ in range(5)]
    last = packets.pop()
    for packet_id in packets[:3]:
        await engine.retractions.retract(packet_id, "alice", confirmed=False)
    await engine.claims.claim(last, "bob")
    with pytest.raises(NotRetractableError):  # what was refused does not count
        await engine.retractions.retract(last, "alice", confirmed=False)
    assert (await send(engine)).state is PacketState.OPEN
    await engine.retractions.retract(packets[3], "alice", confirmed=False)
    with pytest.raises(LimitReachedError) as caught:
        await send(engine)
    (freeze,) = await engine.freezes.of("alice")
    assert (freeze.scope, freeze.frozen_by) == ("sending", "rule:take_backs")
    assert freeze.until_ms is not None
    assert (caught.value.limit, caught.value.until_ms) == ("retractions_an_hour_max", freeze.until_ms)
    assert 0 <= freeze.until_ms - freeze.frozen_at_ms - settings.retraction_freeze_s * 1000 + 60_000 <= 60_000
    alerts = await engine.pool.fetch("SELECT kind, user_id FROM alerts")
    assert [tuple(row) for row in alerts] == [("take_back_burst", "alice")]
    # It is her sending alone; and a day later that is over, whoever lifts it or not.
    assert (await engine.claims.claim((await send(engine, "bob")).packet_id, "alice")).outcome is Outcome.CLAIMED
    await engine.pool.execute("UPDATE accounts SET sending_frozen_until_ms = 1 WHERE owner = 'alice'")
    await send(engine)


async def test_an_hour_later_takings_back_are_forgotten(engine: Engine) -> None:
    for _ in range(3):
        await engine.retractions.retract((await send(engine)).packet_id, "alice", confirmed=False)
    await engine.pool.execute("UPDATE retractions SET asked_at_ms = asked_at_ms - 3600001")
    await engine.retractions.retract((await send(engine)).packet_id, "alice", confirmed=False)
    assert await engine.freezes.of("alice") == []


@pytest.mark.long
async def test_of_a_claim_and_a_taking_back_one_wins(engine: Engine, settings: Settings) -> None:
    """Hundreds of pairs at once, now the one first and now the other: never both, never neither."""
    race, packets = Race(5, rounds_min=150, wins_min=21), list[str]()
    frequent = changed(settings, retractions_an_hour_max=10_000)
    async with Engine.open(frequent) as other, persisting(settings):

        async def take_back(packet_id: str) -> bool:
            await race.wait_first()
            try:
                return await other.retractions.retract(packet_id, "alice", confirmed=False) == 100
            except NotRetractableError:
                return False

        async def claim(packet_id: str) -> ClaimResult:
            await race.wait_second()
            return await engine.claims.claim(packet_id, "bob")

        for _ in race.rounds():
            packet_id = (await send(engine, total_fen=100, count=1)).packet_id
            packets.append(packet_id)
            is_back, claimed_now = await asyncio.gather(take_back(packet_id), claim(packet_id))
            assert claimed_now == (ClaimResult(Outcome.RETRACTED, 0) if is_back else ClaimResult(Outcome.CLAIMED, 100))
            race.won(by_first=is_back)
        won, lost = race.first_won, race.second_won
        await settled(engine, *packets)
        assert (await engine.wallets.get("alice")).balance_fen == won * 100
        assert (await engine.wallets.get("bob")).balance_fen == lost * 100
        assert sum([len(await claimed(engine.pool, packet_id)) for packet_id in packets]) == lost
        await assert_books_balance(engine.pool)


async def test_the_body_says_only_what_it_may(front: Client) -> None:
    packet_id = await front.send("alice")
    answer = await post(front, f"{packet_id}/retraction", "alice", {"confirm": "yes", "force": True})
    assert answer.status_code == 422
    assert {error["field"] for error in answer.json()["errors"]} == {"confirm", "force"}


async def test_money_that_is_back_can_be_sent_again_and_not_before(engine: Engine, settings: Settings) -> None:
    sent = await send(engine, "dora", total_fen=700, count=1)
    await engine.retractions.retract(sent.packet_id, "dora", confirmed=False)
    terms = {"total_fen": 700, "count": 1, "split": "equal"}
    async with open_front(settings) as front:
        early = await front.http.post("/v1/packets", json=terms, headers=front.as_user("dora") | new_key())
        assert early.json()["code"] == InsufficientFundsError.code
        async with persisting(settings):
            await settled(engine, sent.packet_id)
        again = await front.http.post("/v1/packets", json=terms, headers=front.as_user("dora") | new_key())
        assert again.status_code == 201


async def test_one_burst_is_one_freeze_and_one_alert(engine: Engine) -> None:
    packets = [(await send(engine)).packet_id for _ in range(6)]
    for packet_id in packets[:3]:
        await engine.retractions.retract(packet_id, "alice", confirmed=False)
    again = [engine.retractions.retract(packets[3], "alice", confirmed=False) for _ in range(8)]
    assert await asyncio.gather(*again) == [1_000] * 8
    for packet_id in packets[3:]:
        await engine.retractions.retract(packet_id, "alice", confirmed=False)
    assert len(await engine.freezes.of("alice")) == 1
    assert await engine.pool.fetchval("SELECT count(*) FROM alerts WHERE kind = 'take_back_burst'") == 1


async def test_it_is_told_when_it_is_as_safe_as_claims_are(settings: Settings) -> None:
    """Of a packet whose claims wait for the ledger, the sender hears once the ledger has it back."""
    async with Engine.open(changed(settings, ack_timeout_s=0.2)) as engine:
        sent = await send(engine, ack=Ack.LEDGER)
        for _ in range(2):
            with pytest.raises(UnconfirmedError, match="stands"):
                await engine.retractions.retract(sent.packet_id, "alice", confirmed=False)
        assert (await engine.claims.claim(sent.packet_id, "bob")).outcome is Outcome.RETRACTED
        patient = changed(settings, ack_timeout_s=30)
        async with persisting(settings), Engine.open(patient) as another:
            await settled(engine, sent.packet_id)
            assert await another.retractions.retract(sent.packet_id, "alice", confirmed=False) == 1_000
            other = await send(engine, ack=Ack.LEDGER)
            assert await another.retractions.retract(other.packet_id, "alice", confirmed=False) == 1_000
            state = await engine.pool.fetchval("SELECT state FROM packets WHERE packet_id = $1", int(other.packet_id))
            assert state == PacketState.RETRACTED


async def test_a_replica_that_took_over_without_it_does_not_make_it_safe(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger has all changes of the new master, and this one is not among them."""
    async with Engine.open(changed(settings, ack=Ack.LEDGER, ack_timeout_s=5)) as engine:
        async with persisting(settings):
            sent = await send(engine)
            await caught_up(engine)
        before = await engine.store.lane_status(lane_of(sent.packet_id))

        async def of_the_replica(_lane: int) -> LaneStatus | None:
            return before

        monkeypatch.setattr(engine.store, "lane_status", of_the_replica)
        with pytest.raises(UnconfirmedError, match="Another server may have the packet"):
            await engine.retractions.retract(sent.packet_id, "alice", confirmed=False)
