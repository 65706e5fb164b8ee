"""Waves with prizes of several assets, bounds on what a user wins, who may grab, and waves that are extended."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import orjson
import pytest

from engine.access.admissions import Admission
from engine.auditing.audit import audit
from engine.campaigns import terms as campaign_terms_module
from engine.campaigns.campaigns import extend_again
from engine.campaigns.checking import read, verify
from engine.campaigns.grabbing import Asked, Grab, GrabOutcome
from engine.campaigns.terms import Entry, PrizeTerms, Who
from engine.engine import Engine
from engine.errors import (
    CampaignEndedError,
    InvalidFieldsError,
    NotInvitedError,
    NotSenderError,
    UnavailableError,
)
from engine.ids import lane_of
from engine.lanes import keys
from engine.lanes.clients import command
from engine.records import SplitKind
from engine.settings import Settings
from tests.support.lost_lanes import lose_lane, mended
from tests.support.rains import buckets_of, grab_until_told, make, make_of, ready, running
from tests.support.scenes import assert_books_balance, caught_up, changed, fund, persisting, settled, sweeping
from tests.support.waiting import wait_until

USERS = [f"hand{number}" for number in range(40)]
WON = (GrabOutcome.CLAIMED, GrabOutcome.ALREADY_CLAIMED)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return changed(settings, lanes=4)


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[Engine]:
    async with Engine.open(settings) as engine:
        yield engine


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waves may start at once."""
    monkeypatch.setattr(campaign_terms_module, "LEAD_S_MIN", 0)


async def issued(engine: Engine, asset: str, amount_fen: int, *, scale: int = 0) -> None:
    """Let the mall have some of an asset."""
    await engine.assets.define(asset, scale=scale, name=asset.lower())
    known = await engine.assets.named(asset)
    await engine.assets.issue("mall", amount_fen, known, idempotency_key=asset, request_hash=b"")


@pytest.mark.long
async def test_a_wave_gives_money_points_and_cards(engine: Engine, settings: Settings) -> None:
    await fund(engine, "mall", 2_000)
    await issued(engine, "POINTS", 600, scale=1)
    await issued(engine, "CARD_A", 3)
    prizes = (
        PrizeTerms(total_fen=2_000, count=20, split=SplitKind.LUCKY),
        PrizeTerms(total_fen=600, count=12, split=SplitKind.EQUAL, asset="POINTS"),
        PrizeTerms(total_fen=3, count=3, split=SplitKind.EQUAL, asset="CARD_A"),
    )
    made = await make_of(engine, (0, 60, prizes))
    campaign_id = made.campaign_id
    assert (made.count, made.lanes) == (35, 4)
    (buckets,) = await buckets_of(engine, campaign_id)
    assert len(buckets) == 4 + 4 + 3  # a card's three shares need no fourth packet
    async with persisting(settings), sweeping(settings):
        await wait_until(lambda: ready(engine, campaign_id), what="the shares being in Redis")
        grabs = await asyncio.gather(*(grab_until_told(engine, campaign_id, user) for user in USERS * 2))
        won = {grab.user_id: grab.shares for grab in grabs if grab.outcome is GrabOutcome.CLAIMED}
        again = {grab.user_id: grab.shares for grab in grabs if grab.outcome is GrabOutcome.ALREADY_CLAIMED}
        assert again == won  # one each, and everybody hears of the same again
        assert {len(shares) for shares in won.values()} == {1}
        kinds = Counter((share.asset, share.scale) for shares in won.values() for share in shares)
        assert kinds == {("CNY", 2): 20, ("POINTS", 1): 12, ("CARD_A", 0): 3}
        assert {share.amount_fen for (share,) in won.values() if share.asset == "POINTS"} == {50}
        await settled(engine, *buckets)

    async def is_seen_settled() -> bool:  # counts are up to a second old
        return (await engine.campaign_views.get(campaign_id)).is_settled

    await wait_until(is_seen_settled, what="the counts")
    (wave,) = (await engine.campaign_views.get(campaign_id)).waves
    seen = [(prize.asset, prize.total_fen, prize.count, prize.claimed_count) for prize in wave.prizes]
    assert seen == [("CNY", 2_000, 20, 20), ("POINTS", 600, 12, 12), ("CARD_A", 3, 3, 3)]
    proof = await engine.campaign_views.proof(campaign_id)
    text = orjson.dumps(proof)
    assert verify(read(text), made.commitment) == []
    assert verify(read(text.replace(b"CARD_A", b"CARD_B")), made.commitment) != []
    for user, (share,) in won.items():
        if share.asset == "CNY":
            assert (await engine.wallets.get(user)).balance_fen == share.amount_fen
        else:
            (holding,) = (await engine.assets.holdings(user, after=None, limit=5)).holdings
            assert (holding.asset, holding.balance_fen) == (share.asset, share.amount_fen)
    await assert_books_balance(engine.pool)
    findings = await audit(engine.pool, engine.store, engine.stream)
    assert [problem for finding in findings for problem in finding.problems] == []


async def test_a_user_wins_up_to_the_waves_bound_and_no_more(engine: Engine, settings: Settings) -> None:
    """Also with fewer lanes than they may win: then a lane has several packets."""
    made = await make(engine, (0, 60, 6_000, 60), lanes=1, entry=Entry(wave_wins_max=3))
    campaign_id = made.campaign_id
    async with persisting(settings), sweeping(settings):
        await wait_until(lambda: ready(engine, campaign_id), what="the shares being in Redis")
        grabs = await asyncio.gather(*(grab_until_told(engine, campaign_id, user) for user in USERS * 5))
        told = Counter(grab.user_id for grab in grabs if grab.outcome is GrabOutcome.CLAIMED)
        (buckets,) = await buckets_of(engine, campaign_id)
        await settled(engine, *buckets)
        assert sum(told.values()) == 60
        assert max(told.values()) <= 3
        by_user = await engine.pool.fetch(
            "SELECT owner, count(*) AS won FROM transfers JOIN accounts ON account_id = to_account "
            "WHERE transfers.kind = 'claim' GROUP BY owner"
        )
        assert {row["owner"]: row["won"] for row in by_user} == told
        last = [await grab_until_told(engine, campaign_id, user) for user in USERS]
    assert {grab.user_id: len(grab.shares) for grab in last if grab.outcome in WON} == told


@pytest.mark.long
async def test_the_bound_of_all_waves_counts_what_was_won_before(engine: Engine, settings: Settings) -> None:
    waves = [(3_000, 8, 4_000, 40), (13_000, 8, 4_000, 40), (23_000, 120, 8_000, 80)]
    campaign_id = (await make(engine, *waves, entry=Entry(wave_wins_max=2, wins_max=3))).campaign_id
    told: Counter[str] = Counter()
    async with persisting(settings), sweeping(settings):
        for number in (1, 2, 3):
            await running(engine, campaign_id, number)
            asking = USERS[:20] if number == 2 else USERS  # some win nothing in the second one
            for _ in range(3):
                grabs = [await grab_until_told(engine, campaign_id, user) for user in asking]
                told.update(grab.user_id for grab in grabs if grab.outcome is GrabOutcome.CLAIMED)
        assert max(told.values()) == 3
        enough = {grab.user_id for grab in grabs if grab.outcome is GrabOutcome.ENOUGH}
        assert enough == {user for user in USERS if told[user] == 3} - {
            grab.user_id for grab in grabs if grab.outcome is GrabOutcome.ALREADY_CLAIMED
        }
        assert enough
        await engine.campaigns.end(campaign_id, "mall")
        waves_buckets = await buckets_of(engine, campaign_id)
        await settled(engine, *[packet_id for wave in waves_buckets for packet_id in wave])
    await assert_books_balance(engine.pool)


async def test_who_is_not_named_is_not_let_in(engine: Engine, settings: Settings) -> None:
    entry = Entry(who=Who.LISTED, guests=("ada", "bob"))
    campaign_id = (await make(engine, (0, 60, 4_000, 40), entry=entry)).campaign_id
    async with persisting(settings), sweeping(settings):
        await wait_until(lambda: ready(engine, campaign_id), what="the shares being in Redis")
        assert (await grab_until_told(engine, campaign_id, "ada")).outcome is GrabOutcome.CLAIMED
        with pytest.raises(NotInvitedError, match="other users"):
            await engine.grabbing.grab(campaign_id, "eve", Admission(user_id="eve", campaign_id=campaign_id))


async def test_an_admission_lets_in_whom_it_names_as_often_as_it_says(engine: Engine, settings: Settings) -> None:
    entry = Entry(who=Who.ADMITTED, wave_wins_max=4, wins_max=3, label="staff")
    campaign_id = (await make(engine, (0, 60, 8_000, 80), entry=entry)).campaign_id
    mine = Admission(user_id="ada", campaign_id=campaign_id, wins_max=2)
    async with persisting(settings), sweeping(settings):
        await wait_until(lambda: ready(engine, campaign_id), what="the shares being in Redis")
        for refused in (
            None,
            Admission(user_id="bob", campaign_id=campaign_id),
            Admission(user_id="ada", campaign_id="99"),
            Admission(user_id="ada", label="others"),
            Admission(user_id="ada"),
            Admission(user_id="ada", campaign_id=campaign_id, wave=2),
        ):
            with pytest.raises(NotInvitedError):
                await engine.grabbing.grab(campaign_id, "ada", refused)
        outcomes = [(await grab_until_told(engine, campaign_id, "ada", mine)).outcome for _ in range(3)]
        assert outcomes == [GrabOutcome.CLAIMED, GrabOutcome.CLAIMED, GrabOutcome.ALREADY_CLAIMED]
        more = Admission(user_id="ada", label="staff", wave=1)  # the campaign's own bound stays
        outcomes = [(await grab_until_told(engine, campaign_id, "ada", more)).outcome for _ in range(2)]
        assert outcomes == [GrabOutcome.CLAIMED, GrabOutcome.ALREADY_CLAIMED]


async def test_a_games_results_add_up_to_the_bound(engine: Engine) -> None:
    entry = Entry(who=Who.ADMITTED, wins_max=5)
    campaign_id = (await make(engine, (60_000, 60, 4_000, 40), entry=entry)).campaign_id

    async def granted(wins: int, key: str) -> int:
        granted = await engine.campaigns.grant(
            campaign_id, "ada", wins, idempotency_key=key, request_hash=str(wins).encode()
        )
        return granted.wins

    assert [await granted(2, "a"), await granted(2, "a"), await granted(1, "b")] == [2, 2, 3]
    with pytest.raises(InvalidFieldsError, match="at most 2"):
        await granted(3, "c")
    assert await granted(2, "d") == 5
    open_to_all = (await make(engine, (60_000, 60, 4_000, 40))).campaign_id
    with pytest.raises(InvalidFieldsError, match="admitted"):
        await engine.campaigns.grant(open_to_all, "ada", 1, idempotency_key="e", request_hash=b"")
    await engine.campaigns.end(campaign_id, "mall")
    with pytest.raises(CampaignEndedError):
        await granted(1, "f")


@pytest.mark.long
async def test_taps_come_no_faster_than_they_may(engine: Engine, settings: Settings) -> None:
    campaign_id = (await make(engine, (0, 60, 4_000, 40), entry=Entry(interval_ms=400))).campaign_id
    async with persisting(settings), sweeping(settings):
        await wait_until(lambda: ready(engine, campaign_id), what="the shares being in Redis")
        await grab_until_told(engine, campaign_id, "ada")
        again = await engine.grabbing.grab(campaign_id, "ada")
        assert again.outcome in (GrabOutcome.TOO_SOON, GrabOutcome.ALREADY_CLAIMED)  # on a very slow machine
        if again.outcome is GrabOutcome.TOO_SOON:
            assert again.again_at_ms is not None
            assert 0 < again.again_at_ms - again.now_ms <= 400
        assert (await engine.grabbing.grab(campaign_id, "bob")).outcome is GrabOutcome.CLAIMED

        async def is_told_again() -> bool:
            return (await engine.grabbing.grab(campaign_id, "ada")).outcome is GrabOutcome.ALREADY_CLAIMED

        await wait_until(is_told_again, what="the end of the interval")


async def test_a_tap_that_decided_nothing_may_be_repeated_at_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign_id = (await make(engine, (0, 60, 4_000, 40), entry=Entry(interval_ms=60_000))).campaign_id

    async def away(*_: object) -> object:
        raise UnavailableError("Redis does not answer.")

    async def all_away(claims: Sequence[object]) -> object:
        return [UnavailableError("Redis does not answer.") for _ in claims]

    monkeypatch.setattr(engine.claims, "claim_bucket", away)
    monkeypatch.setattr(engine.claims, "claim_buckets", all_away)
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await engine.grabbing.grab(campaign_id, "ada")
        (answer,) = await engine.grabbing.grab_many([Asked(campaign_id, "bob")])
        assert isinstance(answer, UnavailableError)


@pytest.mark.long
async def test_a_refused_tap_does_not_set_the_pace_back(engine: Engine, settings: Settings) -> None:
    entry = Entry(who=Who.ADMITTED, wave_wins_max=5, interval_ms=60_000)
    campaign_id = (await make(engine, (0, 600, 4_000, 40), entry=entry)).campaign_id
    ada, eve = (Admission(user_id=user, campaign_id=campaign_id) for user in ("ada", "eve"))
    async with persisting(settings), sweeping(settings):
        await wait_until(lambda: ready(engine, campaign_id), what="the shares being in Redis")
        assert (await grab_until_told(engine, campaign_id, "ada", ada)).outcome is GrabOutcome.CLAIMED
        for admission in (None, eve):
            with pytest.raises(NotInvitedError):
                await engine.grabbing.grab(campaign_id, "ada", admission)
            (answer,) = await engine.grabbing.grab_many([Asked(campaign_id, "ada", admission)])
            assert isinstance(answer, NotInvitedError)
        assert (await engine.grabbing.grab(campaign_id, "ada", ada)).outcome is GrabOutcome.TOO_SOON
        (again,) = await engine.grabbing.grab_many([Asked(campaign_id, "ada", ada)])
        assert isinstance(again, Grab)
        assert again.outcome is GrabOutcome.TOO_SOON


async def test_a_grant_that_is_repeated_after_an_extension_has_the_new_end(engine: Engine) -> None:
    campaign_id = (await make(engine, (60_000, 60, 4_000, 40), entry=Entry(who=Who.ADMITTED))).campaign_id

    async def granted() -> tuple[int, int]:
        made = await engine.campaigns.grant(campaign_id, "ada", 1, idempotency_key="a", request_hash=b"")
        return made.wins, made.ends_at_ms

    before = await granted()
    ends_at_ms = await extended(engine, campaign_id, 1, 30_000)
    assert (before, await granted()) == ((1, ends_at_ms), (1, ends_at_ms + 30_000))


async def extended(engine: Engine, campaign_id: str, wave: int, later_ms: int) -> int:
    before = (await engine.campaign_views.get(campaign_id)).waves[wave - 1].ends_at_ms
    await engine.campaigns.extend(campaign_id, "mall", wave, before + later_ms)
    return before


@pytest.mark.long
async def test_a_wave_lasts_longer_in_every_process(engine: Engine, settings: Settings) -> None:
    async with persisting(settings), sweeping(settings), Engine.open(settings) as other:
        campaign_id = (await make(engine, (0, 9, 4_000, 40), (180_000, 5, 4_000, 40))).campaign_id
        assert (await other.campaign_views.get(campaign_id)).waves[0].wave == 1  # another process knows the old end
        ended_ms = await extended(engine, campaign_id, 1, 90_000)
        await wait_until(lambda: ready(engine, campaign_id), what="the shares being in Redis")

        async def is_past_its_old_end() -> Grab | None:
            grab = await grab_until_told(other, campaign_id, "nobody")
            return grab if grab.now_ms > ended_ms else None

        grab = await wait_until(is_past_its_old_end, what="the old end")
        assert isinstance(grab, Grab)
        assert (grab.outcome in WON, grab.wave) == (True, 1)
        assert (await grab_until_told(other, campaign_id, "late")).outcome is GrabOutcome.CLAIMED
        (first, _) = await buckets_of(engine, campaign_id)
        await caught_up(engine)
        rows = await engine.pool.fetch(
            "SELECT state::text, expires_at_ms FROM packets WHERE packet_id = ANY ($1)", [*map(int, first)]
        )
        assert {(row["state"], row["expires_at_ms"]) for row in rows} == {("open", ended_ms + 90_000)}


async def test_what_did_not_answer_is_extended_by_the_sweeper(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign_id = (await make(engine, (60_000, 5, 4_000, 40))).campaign_id
    real, asked = engine.store.extend, list[tuple[str, int]]()

    async def hanging(packet_id: str, expires_at_ms: int) -> object:
        raise UnavailableError("Redis does not answer.")

    async def counted(packet_id: str, expires_at_ms: int) -> object:
        asked.append((packet_id, expires_at_ms))
        return await real(packet_id, expires_at_ms)

    monkeypatch.setattr(engine.store, "extend", hanging)
    ended_ms = await extended(engine, campaign_id, 1, 3_000)
    monkeypatch.setattr(engine.store, "extend", counted)
    assert await extend_again(engine.pool, engine.store) == 0
    (buckets,) = await buckets_of(engine, campaign_id)
    assert sorted(asked) == sorted((packet_id, ended_ms + 3_000) for packet_id in buckets)


async def test_a_lane_that_is_rebuilt_has_the_new_end(engine: Engine, settings: Settings) -> None:
    campaign_id = (await make(engine, (60_000, 60, 400, 40), lanes=1)).campaign_id
    async with persisting(settings), sweeping(settings):
        await wait_until(lambda: ready(engine, campaign_id), what="the shares being in Redis")
        await caught_up(engine)
    ended_ms = await extended(engine, campaign_id, 1, 9_000)
    ((packet_id,),) = await buckets_of(engine, campaign_id)
    lane = lane_of(packet_id)
    await lose_lane(engine, lane)
    await mended(engine, lane)
    client = engine.store.client_of(lane)
    assert await command(client, "HGET", keys.packet(packet_id), "expires_at_ms") == str(ended_ms + 9_000).encode()


@pytest.mark.parametrize(
    ("wave", "later_ms", "field"),
    [(1, -1, "ends_at_ms"), (1, 56_000, "ends_at_ms"), (2, 86_400_000, "ends_at_ms"), (3, 1, "wave"), (9, 1, "wave")],
)
async def test_an_end_that_cannot_be_is_named(engine: Engine, wave: int, later_ms: int, field: str) -> None:
    campaign_id = (await make(engine, (60_000, 5, 400, 40), (120_000, 5, 400, 40))).campaign_id
    waves = (await engine.campaign_views.get(campaign_id)).waves
    ends_ms = waves[min(wave, 2) - 1].ends_at_ms
    with pytest.raises(InvalidFieldsError) as caught:
        await engine.campaigns.extend(campaign_id, "mall", wave, ends_ms + later_ms)
    assert [problem.field for problem in caught.value.problems] == [field]
    with pytest.raises(NotSenderError):
        await engine.campaigns.extend(campaign_id, "ada", 1, ends_ms + 1)


async def test_a_wave_that_is_nearly_over_or_ended_stays_as_it_is(engine: Engine) -> None:
    campaign_id = (await make(engine, (0, 2, 400, 40), (60_000, 5, 400, 40))).campaign_id
    with pytest.raises(InvalidFieldsError, match="until 3 s before"):
        await extended(engine, campaign_id, 1, 1_000)
    await engine.campaigns.end(campaign_id, "mall")
    with pytest.raises(CampaignEndedError):
        await extended(engine, campaign_id, 2, 1_000)


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        (Entry(wave_wins_max=0), "wave_wins_max"),
        (Entry(wave_wins_max=21), "wave_wins_max"),
        (Entry(wins_max=0), "wins_max"),
        (Entry(interval_ms=-1), "interval_ms"),
        (Entry(interval_ms=60_001), "interval_ms"),
        (Entry(who=Who.LISTED), "guests"),
        (Entry(guests=("ada",)), "guests"),
        (Entry(who=Who.LISTED, guests=("a b",)), "guests[0]"),
        (Entry(who=Who.LISTED, guests=("a",) * 10_001), "guests"),
        (Entry(label="staff"), "label"),
        (Entry(who=Who.ADMITTED, label="a b"), "label"),
    ],
)
async def test_bad_rules_of_entry_are_named(engine: Engine, entry: Entry, field: str) -> None:
    with pytest.raises(InvalidFieldsError) as caught:
        await make(engine, (0, 5, 10, 2), entry=entry, has_money=False)
    assert [problem.field for problem in caught.value.problems] == [field]


async def test_too_many_packets_and_bad_prizes_are_named(engine: Engine) -> None:
    prize = PrizeTerms(total_fen=10, count=10, split=SplitKind.EQUAL)
    many = [(number * 10_000, 5, (prize,) * 20) for number in range(8)]
    with pytest.raises(InvalidFieldsError) as caught:
        await make_of(engine, *many)
    assert [problem.field for problem in caught.value.problems] == ["lanes"]
    bad = PrizeTerms(total_fen=11, count=10, split=SplitKind.EQUAL, min_fen=5, max_fen=2**60, asset="POINTS")
    with pytest.raises(InvalidFieldsError) as caught:
        await make_of(engine, (0, 5, (prize, bad)), (10_000, 5, ()))
    fields = {problem.field for problem in caught.value.problems}
    assert {"waves[0].prizes[1].max_fen", "waves[1].prizes"} <= fields


async def test_cards_of_another_users_set_cannot_be_prizes(engine: Engine) -> None:
    await issued(engine, "CARD_A", 3)
    await engine.pool.execute("ALTER TABLE assets DISABLE TRIGGER ALL")
    await engine.pool.execute("UPDATE assets SET sole_sender = 'another'")
    await fund(engine, "mall", 100)
    money = PrizeTerms(total_fen=100, count=10, split=SplitKind.LUCKY)
    cards = PrizeTerms(total_fen=3, count=3, split=SplitKind.EQUAL, asset="CARD_A")
    with pytest.raises(InvalidFieldsError, match="card of another user"):
        await make_of(engine, (0, 60, (money, cards)))
