"""The draw: each completer one share, the pool to the fen, whatever stops in the middle, and redone from the proof."""

import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path

import asyncpg
import orjson
import pytest

from engine.auditing.audit import audit
from engine.cards import checking, drawing
from engine.cards.terms import Payout
from engine.cards.views import CardSetState
from engine.engine import Engine
from engine.errors import CardSetEndedError, FrozenError, NoPrizeError, NotDrawnError
from engine.records import SplitKind
from engine.settings import Settings
from tests.support.collectors import OWNER, complete, deal, draw, end, key, make, move_times
from tests.support.commands import hongbao
from tests.support.races import Race
from tests.support.repository import ROOT
from tests.support.scenes import assert_books_balance, sweeping
from tests.support.waiting import wait_until

CLAIMABLE = {"payout": Payout.CLAIMABLE, "claim_seconds": 3_600}


async def completed(engine: Engine, users: int, **terms: object) -> str:
    """A set that so many users have completed; its number."""
    set_id = (await make(engine, (users + 1, users + 1), **terms)).set_id  # type: ignore[arg-type]
    for number in range(users):
        await deal(engine, set_id, f"user{number}", 1, 2)
        await complete(engine, set_id, f"user{number}")
    return set_id


async def drawn_shares(engine: Engine, set_id: str) -> dict[str, int]:
    page = await engine.card_views.shares(set_id, after=None, limit=1_000)
    assert [line.number for line in page.shares] == list(range(len(page.shares)))
    return {line.user_id: line.share_fen for line in page.shares}


@pytest.mark.parametrize("split", [SplitKind.LUCKY, SplitKind.EQUAL])
async def test_the_pool_is_paid_to_the_fen(engine: Engine, monkeypatch: pytest.MonkeyPatch, split: SplitKind) -> None:
    monkeypatch.setattr("engine.cards.draws.PART", 4)
    set_id = await completed(engine, 10, pool_fen=1_003, split=split, min_fen=50)
    await end(engine, set_id)
    await draw(engine)
    shares = await drawn_shares(engine, set_id)
    assert sum(shares.values()) == 1_003
    assert len(shares) == 10
    assert min(shares.values()) >= 50
    if split is SplitKind.EQUAL:
        assert sorted(shares.values()) == [100] * 7 + [101] * 3
    for user, share_fen in shares.items():
        assert (await engine.wallets.get(user)).balance_fen == share_fen
    assert list(shares) != [f"user{number}" for number in range(10)]
    view = await engine.card_views.get(set_id)
    assert (view.state, view.returned_fen, view.completers) == (CardSetState.SETTLED, 0, 10)
    await assert_books_balance(engine.pool)
    findings = await audit(engine.pool, engine.store, engine.stream)
    assert [problem for finding in findings for problem in finding.problems] == []


async def test_nobody_completed_it(engine: Engine) -> None:
    set_id = await completed(engine, 0, pool_fen=777)
    await end(engine, set_id)
    await draw(engine)
    view = await engine.card_views.get(set_id)
    assert (view.state, view.returned_fen) == (CardSetState.SETTLED, 777)
    assert (await engine.wallets.get(OWNER)).balance_fen == 777
    await assert_books_balance(engine.pool)


async def test_nothing_is_drawn_before_its_time(engine: Engine) -> None:
    set_id = await completed(engine, 2)
    await draw(engine)
    assert (await engine.card_views.get(set_id)).state is CardSetState.COLLECTING
    with pytest.raises(NotDrawnError):
        await engine.card_views.proof(set_id)
    with pytest.raises(NotDrawnError):
        await engine.card_prizes.claim(set_id, "user0", **key())


async def test_a_draw_that_is_interrupted_goes_on_where_it_was(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.cards.draws.PART", 3)
    set_id = await completed(engine, 10)
    await end(engine, set_id)
    assert await drawing.step(engine.pool, int(set_id))  # counted
    assert await drawing.step(engine.pool, int(set_id))
    assert len(await drawn_shares(engine, set_id)) == 3
    await engine.pool.execute("ALTER TABLE card_shares ADD CONSTRAINT stops CHECK (number < 3)")
    with pytest.raises(asyncpg.CheckViolationError):  # after the part was paid, in its transaction
        await drawing.step(engine.pool, int(set_id))
    assert await engine.pool.fetchval("SELECT count(*) FROM transfers WHERE kind = 'pool_share'") == 3
    await engine.pool.execute("ALTER TABLE card_shares DROP CONSTRAINT stops")
    assert len(await drawn_shares(engine, set_id)) == 3
    await draw(engine)
    assert sum((await drawn_shares(engine, set_id)).values()) == 10_000
    await assert_books_balance(engine.pool)


async def test_several_sweepers_draw_each_share_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.cards.draws.PART", 2)
    set_id = await completed(engine, 9)
    await end(engine, set_id)
    await asyncio.gather(*(draw(engine) for _ in range(4)))
    shares = await drawn_shares(engine, set_id)
    assert (len(shares), sum(shares.values())) == (9, 10_000)
    assert await engine.pool.fetchval("SELECT count(*) FROM transfers WHERE kind = 'pool_share'") == 9
    await assert_books_balance(engine.pool)


async def test_a_set_that_cannot_be_drawn_stops_no_other(engine: Engine) -> None:
    wrong, right = await completed(engine, 2, pool_fen=500), await completed(engine, 2, pool_fen=500)
    for set_id in (wrong, right):
        await end(engine, set_id)
        assert await drawing.step(engine.pool, int(set_id))
    await engine.pool.execute("UPDATE card_sets SET completers = 3 WHERE set_id = $1", int(wrong))
    await draw(engine)
    states = [(await engine.card_views.get(set_id)).state for set_id in (wrong, right)]
    assert states == [CardSetState.DRAWING, CardSetState.SETTLED]
    await engine.pool.execute("UPDATE card_sets SET completers = 2")  # once it is repaired, it goes on
    await draw(engine)
    assert sum((await drawn_shares(engine, wrong)).values()) == 500


async def test_the_sweeper_draws(engine: Engine, settings: Settings) -> None:
    set_id = await completed(engine, 3)
    await end(engine, set_id)
    async with sweeping(settings):

        async def is_settled() -> bool:
            return (await engine.card_views.get(set_id)).state is CardSetState.SETTLED

        await wait_until(is_settled, what="the draw")
    assert sum((await drawn_shares(engine, set_id)).values()) == 10_000


async def test_shares_are_claimed_once_until_the_deadline(engine: Engine) -> None:
    set_id = await completed(engine, 4, **CLAIMABLE)
    await end(engine, set_id)
    await draw(engine)
    shares = await drawn_shares(engine, set_id)
    values = key()
    prize, replayed = await engine.card_prizes.claim(set_id, "user0", **values)
    assert (prize.share_fen, replayed) == (shares["user0"], False)
    assert await engine.card_prizes.claim(set_id, "user0", **values) == (prize, True)
    assert await engine.card_prizes.claim(set_id, "user0", **key()) == (prize, False)
    assert (await engine.wallets.get("user0")).balance_fen == shares["user0"]
    with pytest.raises(NoPrizeError):
        await engine.card_prizes.claim(set_id, "mallory", **key())
    await engine.freezes.freeze("user1", reason="odd", frozen_by="root")
    with pytest.raises(FrozenError):
        await engine.card_prizes.claim(set_id, "user1", **key())
    assert (await engine.card_views.get(set_id)).state is CardSetState.DRAWN
    await engine.pool.execute("UPDATE card_sets SET drawn_at_ms = 0")
    with pytest.raises(NoPrizeError):
        await engine.card_prizes.claim(set_id, "user2", **key())
    await draw(engine)
    rest = 10_000 - shares["user0"]
    assert (await engine.wallets.get(OWNER)).balance_fen == rest
    assert await engine.card_prizes.claim(set_id, "user0", **key()) == (prize, False)
    with pytest.raises(NoPrizeError):
        await engine.card_prizes.claim(set_id, "user2", **key())
    engine.card_views._seen.clear()
    assert (await engine.card_views.get(set_id)).returned_fen == rest
    await assert_books_balance(engine.pool)
    findings = await audit(engine.pool, engine.store, engine.stream)
    assert [problem for finding in findings for problem in finding.problems] == []


async def test_a_share_that_is_claimed_many_times_at_once_is_paid_once(engine: Engine) -> None:
    set_id = await completed(engine, 2, **CLAIMABLE)
    await end(engine, set_id)
    await draw(engine)
    prizes = await asyncio.gather(*(engine.card_prizes.claim(set_id, "user0", **key()) for _ in range(6)))
    assert len({prize.transfer_id for prize, _ in prizes}) == 1
    assert (await engine.wallets.get("user0")).balance_fen == prizes[0][0].share_fen


async def test_completions_that_race_the_draw_are_in_it_or_refused(engine: Engine) -> None:
    race = Race(1, rounds_min=12, wins_min=3)
    for _ in race.rounds():
        set_id = (await make(engine, (4, 4), pool_fen=1_000)).set_id
        for number in range(3):
            await deal(engine, set_id, f"user{number}", 1, 2)
        await complete(engine, set_id, "user0")
        # Processes that complete still believe in the former times: only the set's row stops them.
        await move_times(engine, set_id)

        async def completes(user: str, set_id: str = set_id) -> None:
            await race.wait_first()
            await complete(engine, set_id, user)

        async def draws() -> None:
            await race.wait_second()
            await draw(engine)

        results = await asyncio.gather(completes("user1"), completes("user2"), draws(), return_exceptions=True)
        assert all(isinstance(result, CardSetEndedError) for result in results if result is not None), results
        shares = await drawn_shares(engine, set_id)
        assert set(shares) == {"user0", *(f"user{number + 1}" for number in range(2) if results[number] is None)}
        assert sum(shares.values()) == 1_000
        race.won(by_first=results[0] is None)
    await assert_books_balance(engine.pool)


@pytest.mark.long
async def test_the_proof_holds_and_tells_of_every_change(engine: Engine, tmp_path: Path) -> None:
    set_id = (await make(engine, (6, 6), granted=(2, 2), wild=2, seconds=2)).set_id
    view = await engine.card_views.get(set_id)
    for number in range(4):
        await engine.collecting.grant(set_id, f"user{number}", "shared", **key())
        await deal(engine, set_id, f"user{number}", 1, 2)
        await complete(engine, set_id, f"user{number}")

    async def is_drawn() -> bool:
        await draw(engine)
        return (await engine.card_views.get(set_id)).state is CardSetState.SETTLED

    await wait_until(is_drawn, what="the draw")
    text = orjson.dumps(await engine.card_views.proof(set_id))
    proof = checking.read(text)
    assert len(proof.grants or ()) == len(proof.shares or ()) == 4
    assert checking.verify(proof) == checking.verify(proof, view.commitment) == []
    assert checking.verify(proof, "00" * 32) != []
    await assert_others_redo_it(tmp_path, text, view.commitment)
    facts = orjson.loads(text)
    for change in (
        {"pool_fen": 10_001},
        {"split": "equal"},
        {"seed": "00" * 32},
        {"completers": 3},
        {"ends_at_ms": 5},
        {"cards": [facts["cards"][0] | {"count": 7}, *facts["cards"][1:]]},
        {"cards": [facts["cards"][0] | {"granted_count": 1}, *facts["cards"][1:]]},
        {"shares": facts["shares"][::-1]},
        {"shares": [facts["shares"][0] | {"share_fen": 1}, *facts["shares"][1:]]},
        {"grants": [facts["grants"][0] | {"card": 3 - facts["grants"][0]["card"]}, *facts["grants"][1:]]},
    ):
        assert checking.verify(checking.read(orjson.dumps(facts | change)), view.commitment) != [], change


async def assert_others_redo_it(folder: Path, text: bytes, committed: str) -> None:
    """The command does, and the program in the documents, which has nothing of this one."""
    (folder / "proof.json").write_bytes(text)
    finished = await asyncio.to_thread(hongbao, "verify", folder / "proof.json", "--commitment", committed)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "are those of the published commitment; 4 grants and 4 shares as drawn" in finished.stdout
    (folder / "wrong.json").write_bytes(text.replace(b'"pool_fen":10000', b'"pool_fen":10001'))
    finished = await asyncio.to_thread(hongbao, "verify", folder / "wrong.json", "--json")
    assert (finished.returncode, orjson.loads(finished.stdout)["holds"]) == (1, False)
    code = (ROOT / "docs" / "cards.md").read_text(encoding="utf-8").partition("nothing of this program:\n\n")[2]
    command = [sys.executable, "-c", textwrap.dedent(code)]
    printed = await asyncio.to_thread(
        lambda: subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", check=True)
    )
    assert printed.stdout.split() == [committed, "True"]
