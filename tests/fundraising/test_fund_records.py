"""What is told of gifts afterwards: receipts, bills, and the reconciliation of their day."""

import asyncio
import hashlib
import json
from pathlib import Path

import orjson
import pytest

from engine.auditing.comparison import Day
from engine.auditing.reconciliation import reconcile
from engine.calendar.china_time import today
from engine.engine import Engine
from engine.errors import OperatorError, UnknownFundraiserError, UnknownGiftError
from engine.fundraising.receipt_check import check, read
from engine.fundraising.receipts import GiftReceipt, hash_of
from engine.fundraising.settling import follow_fundraisers
from engine.fundraising.views import FundraiserState, GiftState
from engine.settings import Settings
from engine.wallets.payouts import SandboxPayouts
from tests.support.commands import hongbao
from tests.support.days import whole_day
from tests.support.funds import balance, give, in_funds, let_time_be_over, make_fundraiser, match, settle
from tests.support.repository import ROOT
from tests.support.scenes import caught_up, persisting, send
from tests.support.waiting import wait_until


async def receipt(engine: Engine, number: str, gift_id: str, user: str | None = "ada") -> GiftReceipt:
    return await engine.gift_receipts.of(number, gift_id, user, sees_all=user is None)


async def test_a_receipt_says_what_has_become_of_the_gift(settings: Settings) -> None:
    async with Engine.open(settings) as engine:
        kept, missed = [await make_fundraiser(engine, goal_fen=goal_fen) for goal_fen in (100, 10_000)]
        gifts = {}
        for number in (kept, missed):
            await match(engine, number, percent=10, budget_fen=500)
            gifts[number] = await give(engine, number, "ada", 100, message="加油", is_anonymous=True)
            facts = (await receipt(engine, number, gifts[number].gift_id)).facts
            assert (facts.state, facts.settled_at_ms, facts.payout_transfer_id) == (GiftState.HELD, None, None)
            assert (facts.amount_fen, facts.matched_fen, facts.message, facts.currency) == (100, 10, "加油", "CNY")
            assert [(entry.kind, entry.amount_fen) for entry in facts.transfers] == [("gift", 100)]
            await let_time_be_over(engine, number)
        await settle(engine)
        facts = (await receipt(engine, kept, gifts[kept].gift_id)).facts
        assert (facts.state, facts.beneficiary) == (GiftState.PAID_OUT, "school")
        assert facts.settled_at_ms == (await engine.fundraiser_views.get(kept)).settled_at_ms
        (paid,) = (await engine.wallets.transfers("school", after=None, limit=5)).transfers
        assert (paid.transfer_id, paid.kind, paid.amount_fen) == (facts.payout_transfer_id, "fund_payout", 110)
        facts = (await receipt(engine, missed, gifts[missed].gift_id)).facts
        assert (facts.state, facts.payout_transfer_id) == (GiftState.RETURNED, None)
        assert [(entry.kind, entry.amount_fen) for entry in facts.transfers] == [("gift", 100), ("gift_return", 100)]
        assert facts.settled_at_ms == facts.transfers[-1].at_ms


async def test_only_its_giver_and_admins_get_it(settings: Settings) -> None:
    async with Engine.open(settings) as engine:
        number, other = await make_fundraiser(engine), await make_fundraiser(engine)
        gift_id = (await give(engine, number)).gift_id
        assert await receipt(engine, number, gift_id) == await receipt(engine, number, gift_id, None)
        for fundraiser_id, gift, user in ((number, gift_id, "bob"), (number, "77", "ada"), (other, gift_id, "ada")):
            with pytest.raises(UnknownGiftError):
                await receipt(engine, fundraiser_id, gift, user)
        with pytest.raises(UnknownFundraiserError):
            await receipt(engine, "77", gift_id)


async def test_its_hash_is_computed_as_the_page_says(settings: Settings) -> None:
    async with Engine.open(settings) as engine:
        number = await make_fundraiser(engine)
        shown = json.loads(orjson.dumps(await receipt(engine, number, (await give(engine, number)).gift_id)))
    assert "hongbao gift receipt 1" in (ROOT / "docs" / "fundraising.md").read_text(encoding="utf-8")
    facts = json.dumps(shown["facts"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256(b"hongbao gift receipt 1\n" + facts.encode()).hexdigest() == shown["hash"]


async def test_whatever_is_changed_in_a_receipt_is_found(settings: Settings, tmp_path: Path) -> None:
    variables = {"HONGBAO_REDIS_URL": str(settings.redis_url), "HONGBAO_DATABASE_URL": str(settings.database_url)}
    file = tmp_path / "receipt.json"

    async def verified(text: bytes) -> tuple[int, str, str]:
        file.write_bytes(text)
        finished = await asyncio.to_thread(hongbao, "verify", file, **variables)
        return finished.returncode, finished.stdout, finished.stderr

    async with Engine.open(settings) as engine:
        number = await make_fundraiser(engine)
        gift_id = (await give(engine, number, message="加油")).gift_id
        early = orjson.dumps(await receipt(engine, number, gift_id))
        assert await verified(early) == (
            0,
            "gift 1: its hash matches its facts, and each fact matches the ledger\n",
            "",
        )
        await let_time_be_over(engine, number)
        await settle(engine)
        code, told, _ = await verified(early)
        assert code == 1
        assert 'gift 1: state is "held" in the receipt, "returned" in the ledger' in told
        last = orjson.dumps(await receipt(engine, number, gift_id))
        assert (await verified(last))[0] == 0
        for name in json.loads(last)["facts"]:
            facts = json.loads(last)["facts"]
            facts[name] = {"transfers": []}.get(name, other_than(facts[name]))
            text = orjson.dumps({"facts": facts, "hash": hash_of(facts)})
            async with engine.pool.acquire() as connection:
                try:
                    problems = await check(connection, read(text))
                except OperatorError:
                    continue  # it is no receipt any more
            assert problems != [], name
        code, told, _ = await verified(last.replace(b"school", b"School"))
        assert (code, told.count("its hash is")) == (1, 1)
        for text in (b'{"facts": {"gift_id": 5}, "hash": ""}', last.replace(b'"hash"', b'"hush"')):
            code, _, told = await verified(text)
            assert (code, "not a receipt of a gift" in told) == (1, True)


def other_than(value: object) -> object:
    """Another value of the same type."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case str():
            return {"all_or_nothing": "keep_what_comes", "returned": "held"}.get(value, f"{value}1")
        case _:
            return "1"


async def test_bills_name_gifts_and_the_day_agrees(settings: Settings) -> None:
    await whole_day()
    async with Engine.open(settings) as engine:
        for goal_fen in (100, 10_000):
            number = await make_fundraiser(engine, goal_fen=goal_fen)
            await match(engine, number, percent=10, budget_fen=500)
            await give(engine, number, "ada", 100)
            await let_time_be_over(engine, number)
        await settle(engine)
        async with persisting(settings):
            await send(engine)
            await caught_up(engine)
        told = {}
        for user in ("ada", "mall", "school"):
            statement = await engine.statements.of(user, today(), today())
            told[user] = b"".join([part async for part in statement.as_csv()]).decode("utf-8-sig")
        assert [told["ada"].count(kind) for kind in ("`捐款,", "`捐款退回,")] == [2, 1]
        assert [told["mall"].count(kind) for kind in ("`配捐,", "`配捐退回,")] == [2, 3]
        assert told["school"].count("`募捐到账,`收入,`1.10,`1.10") == 1
        provider = SandboxPayouts(engine.pool, settings)
        found = await reconcile(engine.pool, engine.store, engine.stream, provider, Day.of(today()))
        assert [(one.name, one.differences) for one in found if not one.agrees] == []
        sums = {one.name: (one.left.count, one.left.fen) for one in found}
        assert sums["gift: ledger"] == (2, 200)
        assert sums["match: ledger"] == (2, 20)
        assert sums["match_return: ledger"] == (3, 490 + 490 + 10)
        assert sums["gift_return in: statements"] == (1, 100)


async def test_one_that_cannot_be_settled_keeps_no_other_waiting(settings: Settings) -> None:
    async with Engine.open(settings) as engine:
        short, other = [await make_fundraiser(engine, goal_fen=10_000) for _ in range(2)]
        for number in (short, other):
            await give(engine, number, "ada", 100)
        await engine.pool.execute(
            "UPDATE accounts SET balance_fen = 99 "
            "WHERE account_id = (SELECT account_id FROM fundraisers WHERE fundraiser_id = $1)",
            int(short),
        )
        for number in (short, other):
            await let_time_be_over(engine, number)
        stop = asyncio.Event()
        following = asyncio.create_task(follow_fundraisers(engine.pool, stop))

        async def is_returned() -> bool:
            return (await engine.fundraiser_views.get(other)).state is FundraiserState.RETURNED

        await wait_until(is_returned, what="the return of the other")
        stop.set()
        await following
        assert (await engine.fundraiser_views.get(short)).state is FundraiserState.RETURNING
        assert (await balance(engine, "ada"), await in_funds(engine)) == (100, 99)


@pytest.mark.long
async def test_an_operator_lists_shows_and_ends_it(settings: Settings) -> None:
    variables = {"HONGBAO_REDIS_URL": str(settings.redis_url), "HONGBAO_DATABASE_URL": str(settings.database_url)}

    async def printed(*words: str, code: int = 0) -> str:
        finished = await asyncio.to_thread(hongbao, "fundraisers", *words, **variables)
        assert finished.returncode == code, finished.stderr
        return finished.stdout if code == 0 else finished.stderr

    async with Engine.open(settings) as engine:
        assert await printed("list") == "there is no fundraiser\n"
        number = await make_fundraiser(engine, goal_fen=10_000)
        await match(engine, number, percent=10, budget_fen=500)
        await give(engine, number, "ada", 200)
        assert await printed("list") == "fundraiser 1  org  图书馆: open, 2.20 of 100.00\n"
        assert json.loads(await printed("list", "--json"))[0]["raised_fen"] == 220
        assert (await printed("show", "1")).splitlines() == [
            "fundraiser 1  org  图书馆: open, all_or_nothing",
            "goal      100.00",
            "raised    2.20 (gifts: 1; matched: 0.20)",
            "match 1  mall  0.20 of 5.00",
        ]
        assert json.loads(await printed("end", "1", "--json"))["state"] == "ending"
        await settle(engine)
        assert "returned  2.00 (gifts: 1)" in await printed("show", "1")
        assert "No fundraiser has this number" in await printed("show", "7", code=1)
        assert "No fundraiser has this number" in await printed("end", "7", code=1)
