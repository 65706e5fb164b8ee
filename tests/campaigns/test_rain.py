"""A rain on real servers: waves over lanes, nobody wins twice, and everything is paid, told and returned to the fen."""

import asyncio
import json
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import orjson
import pytest

from engine.auditing.audit import audit
from engine.campaigns import terms as campaign_terms_module
from engine.campaigns.campaigns import close_ended
from engine.campaigns.checking import read, verify
from engine.campaigns.draws import may_win
from engine.campaigns.grabbing import Grab, GrabOutcome
from engine.campaigns.views import CampaignState
from engine.engine import Engine
from engine.errors import (
    BusyError,
    CampaignEndedError,
    NotInvitedError,
    NotSenderError,
    NotSettledError,
    RecoveringError,
    UnavailableError,
)
from engine.ids import lane_of, may_be_in_campaign, new_packet_number
from engine.records import Outcome, SplitKind
from engine.settings import Settings
from tests.support.commands import hongbao
from tests.support.lost_lanes import lose_lane, mended
from tests.support.rains import buckets_of, fen_of, grab_until_told, make, ready, running
from tests.support.repository import ROOT
from tests.support.scenes import assert_books_balance, caught_up, changed, persisting, settled, sweeping
from tests.support.waiting import wait_until

USERS = [f"hand{number}" for number in range(60)]


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


@pytest.mark.long  # its waves are long enough for a machine with other work
async def test_two_waves_over_four_lanes(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    made = await make(engine, (1_500, 9, 4_000, 40), (12_000, 6, 900, 9))
    campaign_id = made.campaign_id
    assert (made.count, made.lanes) == (49, 4)
    assert (await engine.wallets.get("mall")).balance_fen == 0
    waves = await buckets_of(engine, campaign_id)
    assert [sorted(map(lane_of, wave)) for wave in waves] == [[0, 1, 2, 3], [0, 1, 2, 3]]
    early = await engine.grabbing.grab(campaign_id, "ada")
    assert (early.outcome, early.wave, early.shares) == (GrabOutcome.NOT_STARTED, 1, ())
    assert early.starts_at_ms is not None
    assert 0 < early.starts_at_ms - early.now_ms <= 1_500
    async with persisting(settings), sweeping(settings):
        await running(engine, campaign_id, 1)
        grabs = await asyncio.gather(*(grab_until_told(engine, campaign_id, user) for user in USERS * 2))
        won = {grab.user_id: fen_of(grab) for grab in grabs if grab.outcome is GrabOutcome.CLAIMED}
        assert {grab.wave for grab in grabs} == {1}
        outcomes = Counter(grab.outcome for grab in grabs)
        # "nobody in particular" has asked while the wave began, and may have won.
        assert len(won) in (39, 40)
        assert outcomes[GrabOutcome.CLAIMED] == outcomes[GrabOutcome.ALREADY_CLAIMED] == len(won)
        assert outcomes[GrabOutcome.SOLD_OUT] == 2 * (60 - len(won))
        for grab in grabs:
            if grab.outcome is GrabOutcome.ALREADY_CLAIMED:
                assert fen_of(grab) == won[grab.user_id]
        await between(engine, campaign_id)
        again = [await grab_until_told(engine, campaign_id, user) for user in USERS]
        assert {grab.user_id: fen_of(grab) for grab in again if grab.wave == 1} == won
        waiting = [grab for grab in again if grab.user_id not in won]
        assert {(grab.outcome, grab.wave) for grab in waiting} == {(GrabOutcome.BETWEEN_WAVES, 2)}
        with pytest.raises(NotSettledError):
            await engine.campaign_views.proof(campaign_id)
        await running(engine, campaign_id, 2)
        second = [await grab_until_told(engine, campaign_id, user) for user in USERS]
        assert sum(grab.outcome is GrabOutcome.CLAIMED for grab in second) in (8, 9)
        await settled(engine, *waves[0], *waves[1])
    view = await wait_until(lambda: over(engine, campaign_id), what="the end")
    assert view is True
    found = await engine.campaign_views.get(campaign_id)
    assert [(prize.returned_fen, prize.claimed_count) for wave in found.waves for prize in wave.prizes] == [
        (0, 40),
        (0, 9),
    ]
    assert (await engine.grabbing.grab(campaign_id, "late")).outcome is GrabOutcome.OVER
    proof = await engine.campaign_views.proof(campaign_id)
    text = orjson.dumps(proof)
    assert verify(read(text), made.commitment) == []
    (tmp_path / "proof.json").write_bytes(text)
    finished = await asyncio.to_thread(hongbao, "verify", tmp_path / "proof.json", "--commitment", made.commitment)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "8 packets are those of the published commitment" in finished.stdout
    (tmp_path / "of_another_shell.json").write_text(text.decode(), encoding="utf-16")
    finished = await asyncio.to_thread(hongbao, "verify", tmp_path / "of_another_shell.json")
    assert (finished.returncode, finished.stderr) == (0, "")
    code = (ROOT / "docs" / "campaigns.md").read_text(encoding="utf-8").partition("nothing of this program:\n\n")[2]
    printed = await asyncio.to_thread(
        lambda: subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
    )
    assert printed.stdout.split() == [made.commitment, "True"]
    changed_proof = json.loads(text)
    changed_proof["waves"][0]["buckets"][0]["total_fen"] += 1
    assert verify(read(orjson.dumps(changed_proof)), made.commitment) != []
    changed_proof = json.loads(text) | {"odds_millionths": 5}
    (problem,) = verify(read(orjson.dumps(changed_proof)), made.commitment)
    assert "odds, seed and packets" in problem
    await assert_books_balance(engine.pool)
    findings = await audit(engine.pool, engine.store, engine.stream)
    assert [problem for finding in findings for problem in finding.problems] == []


async def between(engine: Engine, campaign_id: str) -> None:
    async def is_between() -> bool:
        return (await engine.campaign_views.get(campaign_id)).state is CampaignState.BETWEEN_WAVES

    await wait_until(is_between, what="the time between the waves")


async def over(engine: Engine, campaign_id: str) -> bool:
    view = await engine.campaign_views.get(campaign_id)
    return view.state is CampaignState.OVER and view.is_settled


async def test_nobody_claims_a_part_of_it_past_the_campaign(engine: Engine, settings: Settings) -> None:
    campaign_id = (await make(engine, (0, 60, 400, 40))).campaign_id
    async with persisting(settings), sweeping(settings):
        await running(engine, campaign_id, 1)
    (buckets,) = await buckets_of(engine, campaign_id)
    for packet_id in buckets:
        assert may_be_in_campaign(packet_id)
        with pytest.raises(NotInvitedError):
            await engine.claims.claim(packet_id, "ada")
    answers = await engine.claims.claim_many([(packet_id, "ada") for packet_id in buckets])
    assert {type(answer) for answer in answers} == {NotInvitedError}
    assert (await engine.grabbing.grab(campaign_id, "ada")).outcome is GrabOutcome.CLAIMED
    assert sum([await engine.store.claim_of(packet_id, "ada") is not None for packet_id in buckets]) == 1


def test_ordinary_packets_do_not_look_like_parts_of_a_campaign() -> None:
    numbers = [new_packet_number(7) for _ in range(2_000)]
    assert not any(map(may_be_in_campaign, numbers))
    assert {len(number) for number in numbers} == {19}
    assert {len(new_packet_number(7, in_campaign=True)) for _ in range(200)} == {19}


@pytest.mark.long
async def test_who_finds_a_bucket_empty_goes_on_only_when_the_ledger_has_its_end(
    engine: Engine, settings: Settings
) -> None:
    """A failover could bring an empty bucket's shares back, and whoever had gone on would win twice."""
    campaign_id = (await make(engine, (0, 60, 40, 4), split=SplitKind.EQUAL)).campaign_id
    async with persisting(settings), sweeping(settings):
        await wait_until(lambda: ready(engine, campaign_id), what="the shares being in Redis")
        await caught_up(engine)
    # Nobody books anything now.
    told: list[Grab | type[BaseException]] = []
    for user in USERS[:12]:
        try:
            told.append(await engine.grabbing.grab(campaign_id, user))
        except BusyError as error:
            told.append(type(error))
    first = [grab for grab in told if isinstance(grab, Grab)]
    assert {grab.outcome for grab in first} == {GrabOutcome.CLAIMED}
    assert BusyError in told
    async with persisting(settings), sweeping(settings):
        grabs = [await grab_until_told(engine, campaign_id, user) for user in USERS[:12]]
    outcomes = Counter(grab.outcome for grab in grabs)
    assert outcomes[GrabOutcome.CLAIMED] + outcomes[GrabOutcome.ALREADY_CLAIMED] == 4
    assert outcomes[GrabOutcome.ALREADY_CLAIMED] == len(first)
    assert outcomes[GrabOutcome.SOLD_OUT] == 8


async def test_losers_ask_no_redis_once_the_end_is_known(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign_id = (await make(engine, (0, 60, 80, 8))).campaign_id
    async with persisting(settings), sweeping(settings):
        await wait_until(lambda: ready(engine, campaign_id), what="the shares being in Redis")
        won = {}
        for user in USERS:
            grab = await grab_until_told(engine, campaign_id, user)
            if grab.outcome is GrabOutcome.CLAIMED:
                won[user] = fen_of(grab)
        (buckets,) = await buckets_of(engine, campaign_id)
        ended = engine.grabbing.ended
        await wait_until(lambda: not ended.not_lost(buckets, "nobody"), what="learning it")
        asked: list[str] = []
        real = engine.claims.claim_bucket

        async def counted(packet_id: str, user_id: str) -> object:
            asked.append(user_id)
            return await real(packet_id, user_id)

        monkeypatch.setattr(engine.claims, "claim_bucket", counted)
        grabs = [await engine.grabbing.grab(campaign_id, user) for user in USERS]
    assert {grab.user_id: fen_of(grab) for grab in grabs if grab.outcome is GrabOutcome.ALREADY_CLAIMED} == won
    assert sorted(asked) == sorted(won)  # each winner at one bucket, and no loser at any


async def test_the_odds_are_the_same_for_every_tap(engine: Engine, settings: Settings) -> None:
    campaign_id = (await make(engine, (0, 60, 6_000, 60), odds_millionths=400_000)).campaign_id
    async with persisting(settings), sweeping(settings):
        await wait_until(lambda: ready(engine, campaign_id), what="the shares being in Redis")
        for _ in range(2):
            grabs = [await grab_until_told(engine, campaign_id, user) for user in USERS]
            seed = await engine.pool.fetchval("SELECT seed FROM campaigns")
            for grab in grabs:
                is_lucky = may_win(seed, campaign_id, 1, grab.user_id, 400_000)
                assert (grab.outcome is GrabOutcome.MISSED) == (not is_lucky)


@pytest.mark.long
async def test_it_is_paused_goes_on_and_is_ended(engine: Engine, settings: Settings) -> None:
    campaign_id = (await make(engine, (0, 60, 400, 40), (120_000, 60, 300, 30))).campaign_id
    async with persisting(settings), sweeping(settings):
        await running(engine, campaign_id, 1)
        for owner in ("ada", "nobody"):
            with pytest.raises(NotSenderError):
                await engine.campaigns.pause(campaign_id, owner, is_paused=True)
            with pytest.raises(NotSenderError):
                await engine.campaigns.end(campaign_id, owner)
        async with Engine.open(settings) as other:  # another process, which has just looked
            won = await grab_until_told(other, campaign_id, "ada")
            await engine.campaigns.pause(campaign_id, "mall", is_paused=True)

            async def is_told() -> bool:
                return (await other.grabbing.grab(campaign_id, "bob")).outcome is GrabOutcome.PAUSED

            await wait_until(is_told, timeout_s=5, what="the other process's learning of it")
        await wait_until(lambda: is_paused(engine, campaign_id), what="everybody's seeing it")
        await engine.campaigns.pause(campaign_id, "mall", is_paused=False)
        again = await grab_until_told(engine, campaign_id, "ada")
        assert (again.outcome, again.shares) == (GrabOutcome.ALREADY_CLAIMED, won.shares)
        await engine.campaigns.end(campaign_id, "mall")
        await engine.campaigns.end(campaign_id, "mall")
        assert (await engine.grabbing.grab(campaign_id, "eve")).outcome is GrabOutcome.OVER
        with pytest.raises(CampaignEndedError):
            await engine.campaigns.pause(campaign_id, "mall", is_paused=True)
        await settled(engine, *[packet_id for wave in await buckets_of(engine, campaign_id) for packet_id in wave])
        given_fen = await engine.pool.fetchval("SELECT sum(amount_fen) FROM transfers WHERE kind = 'claim'")
        assert (await engine.wallets.get("mall")).balance_fen == 700 - given_fen
    await assert_books_balance(engine.pool)


async def test_the_clock_runs_on_while_its_owner_changes_it(engine: Engine) -> None:
    """A change between the answer about the clock and the tap that waited for it once set the clock far ahead."""
    campaign_id = (await make(engine, (60_000, 60, 400, 40))).campaign_id
    known = await engine.grabbing._register.known(campaign_id)
    known.doubt()
    tap = asyncio.create_task(engine.grabbing.grab(campaign_id, "ada"))
    while known.refreshing is None or not known.refreshing.done():  # noqa: ASYNC110  # to the very moment
        await asyncio.sleep(0)
    known.doubt()
    assert (await tap).outcome is GrabOutcome.NOT_STARTED


async def test_a_question_on_its_way_does_not_hide_a_change(engine: Engine) -> None:
    campaign_id = (await make(engine, (60_000, 60, 400, 40))).campaign_id
    known = await engine.grabbing._register.known(campaign_id)
    known.doubt()
    tap = asyncio.create_task(engine.grabbing.grab(campaign_id, "ada"))
    await asyncio.sleep(0)  # its question may be answered with what was before the pause
    await engine.campaigns.pause(campaign_id, "mall", is_paused=True)
    await tap
    assert (await engine.grabbing.grab(campaign_id, "ada")).outcome is GrabOutcome.PAUSED


async def test_its_state_and_its_clock_are_of_the_moment(engine: Engine) -> None:
    """What an owner has just changed is in the answer, and a countdown by the clock is right."""
    campaign_id = (await make(engine, (60_000, 60, 400, 40))).campaign_id
    first = await engine.campaign_views.get(campaign_id)
    await asyncio.sleep(0.2)
    assert (await engine.campaign_views.get(campaign_id)).now_ms - first.now_ms >= 190
    await engine.campaigns.end(campaign_id, "mall")
    assert (await engine.campaign_views.get(campaign_id)).state is CampaignState.OVER


async def test_all_who_look_at_once_share_one_look(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign_id, asked = (await make(engine, (60_000, 60, 400, 40))).campaign_id, []
    real = engine.store.states

    async def counted(packet_ids: Sequence[str]) -> object:
        asked.append(packet_ids)
        return await real(packet_ids)

    monkeypatch.setattr(engine.store, "states", counted)
    await asyncio.gather(*(engine.campaign_views.get(campaign_id) for _ in range(50)))
    assert len(asked) == 1  # of the one server that there is


async def is_paused(engine: Engine, campaign_id: str) -> bool:
    return (await engine.campaign_views.get(campaign_id)).state is CampaignState.PAUSED


@pytest.mark.long
async def test_what_could_not_be_closed_is_closed_by_the_sweeper(engine: Engine, settings: Settings) -> None:
    campaign_id = (await make(engine, (60_000, 60, 400, 40))).campaign_id
    await engine.campaigns.end(campaign_id, "mall")  # nothing of it is in Redis yet
    async with persisting(settings), sweeping(settings):
        (buckets,) = await buckets_of(engine, campaign_id)
        await settled(engine, *buckets)
    assert (await engine.wallets.get("mall")).balance_fen == 400


async def test_a_server_that_hangs_is_asked_once_for_all_that_it_has(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call to it may take seconds, and a campaign may be 600 packets."""
    campaign_id, asked = (await make(engine, (60_000, 60, 400, 40), (180_000, 60, 400, 40))).campaign_id, []

    async def hanging(packet_id: str, reason: object) -> None:
        asked.append(packet_id)
        raise UnavailableError("Redis does not answer.")

    monkeypatch.setattr(engine.store, "close", hanging)
    await engine.campaigns.end(campaign_id, "mall")
    assert len(asked) == 1
    assert await close_ended(engine.pool, engine.store) == 0
    assert len(asked) == 2


async def test_it_is_made_while_the_server_of_the_first_lane_is_down(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, down = engine.store.now_ms, {0, 1, 2}

    async def now_ms(lane: int) -> int:
        if lane in down:
            raise UnavailableError("Redis does not answer.")
        return await real(lane)

    monkeypatch.setattr(engine.store, "now_ms", now_ms)
    monkeypatch.setattr(engine.store, "pause_server_of", lambda _: engine.store.paused.update(down))
    assert (await make(engine, (60_000, 60, 400, 40))).count == 40


async def test_a_lane_that_is_rebuilt_keeps_the_wave_waiting(engine: Engine, settings: Settings) -> None:
    """What has not started is held after a recovery, too, and nobody is given it before."""
    campaign_id = (await make(engine, (60_000, 60, 400, 40))).campaign_id
    async with persisting(settings), sweeping(settings):
        await wait_until(lambda: ready(engine, campaign_id), what="the shares being in Redis")
        await caught_up(engine)
    ((packet_id, *_),) = await buckets_of(engine, campaign_id)
    lane = lane_of(packet_id)
    await lose_lane(engine, lane)
    await mended(engine, lane)

    async def answered() -> Outcome | None:
        try:
            reply = await engine.store.claim(lane, {packet_id: ["ada"]}, backlog_max=1_000)
        except RecoveringError:  # this process has not learnt of it yet
            return None
        return reply.results[0].outcome

    assert await wait_until(answered, what="the lane's serving again") is Outcome.HELD


@pytest.mark.long
async def test_an_operator_lists_shows_pauses_and_ends_it(engine: Engine, settings: Settings) -> None:
    await make(engine, (60_000, 60, 400, 40), (120_000, 60, 300, 30))
    variables = {"HONGBAO_REDIS_URL": str(settings.redis_url), "HONGBAO_DATABASE_URL": str(settings.database_url)}

    async def told(*words: str) -> str:
        finished = await asyncio.to_thread(hongbao, "campaigns", *words, HONGBAO_LANES="4", **variables)
        assert (finished.returncode, finished.stderr) == (0, "")
        return finished.stdout

    assert await told("list") == "campaign 1  mall  春节红包雨\n"
    async with persisting(settings), sweeping(settings):
        await wait_until(lambda: ready(engine, "1"), what="the shares being in Redis")
        lines = (await told("show", "1")).splitlines()
        assert lines[0] == "campaign 1  mall  春节红包雨: armed, 0 of 70 shares given"
        assert lines[1:] == ["wave 1  0 of 40 shares given, of 4.00 CNY", "wave 2  0 of 30 shares given, of 3.00 CNY"]
        assert ": paused, " in await told("pause", "1")
        assert ": armed, " in await told("resume", "1")
        assert json.loads(await told("end", "1", "--json"))["state"] == "over"
        await wait_until(lambda: over(engine, "1"), timeout_s=20, what="its being closed")
    assert (await told("show", "1")).splitlines()[-1].endswith("of 3.00 CNY, 3.00 returned")
    finished = await asyncio.to_thread(hongbao, "campaigns", "pause", "1", HONGBAO_LANES="4", **variables)
    assert (finished.returncode, finished.stderr) == (1, "hongbao: The campaign has been ended.\n")
    finished = await asyncio.to_thread(hongbao, "campaigns", "show", "7", HONGBAO_LANES="4", **variables)
    assert (finished.returncode, finished.stderr) == (1, "hongbao: No campaign has this number.\n")
