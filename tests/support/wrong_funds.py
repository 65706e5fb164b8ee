"""Fundraisers made wrong behind the ledger's back, for the tests of the audit."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from engine.engine import Engine
from engine.fundraising.terms import Mode
from tests.support.funds import give, let_time_be_over, make_fundraiser, match, settle


class Scene(Protocol):
    """What can be changed."""

    async def sql(self, *statements: str) -> None:
        """Change the ledger behind its back."""


async def raise_funds(engine: Engine) -> None:
    """Three fundraisers with a match and two gifts each: one that is paid out, one returned, one still open."""
    for goal_fen, is_over in ((100, True), (10_000, True), (10_000, False)):
        number = await make_fundraiser(engine, goal_fen=goal_fen, mode=Mode.ALL_OR_NOTHING)
        await match(engine, number, percent=50, budget_fen=40)
        await give(engine, number, "ada", 60)
        await give(engine, number, "eve", 70, is_anonymous=True)
        if is_over:
            await let_time_be_over(engine, number)
    await settle(engine)


_GIFTS = "ALTER TABLE fundraiser_gifts DISABLE TRIGGER USER"
_FUNDRAISERS = "ALTER TABLE fundraisers DISABLE TRIGGER USER"
_ENTRIES = "ALTER TABLE transfers DISABLE TRIGGER USER"
_FUND = "(SELECT account_id FROM fundraisers WHERE state = 'open')"


async def take_from_a_fund(scene: Scene) -> None:
    await scene.sql(f"UPDATE accounts SET balance_fen = balance_fen - 1 WHERE account_id = {_FUND}")


async def give_to_a_settled_fund(scene: Scene) -> None:
    await scene.sql(
        "UPDATE accounts SET balance_fen = 5 "
        "WHERE account_id = (SELECT account_id FROM fundraisers WHERE state = 'paid_out')"
    )


async def forget_a_gift(scene: Scene) -> None:
    await scene.sql(_GIFTS, "DELETE FROM fundraiser_gifts WHERE gift_id = (SELECT max(gift_id) FROM fundraiser_gifts)")


async def miscount_gifts(scene: Scene) -> None:
    await scene.sql("UPDATE fundraisers SET given_fen = given_fen + 1 WHERE state = 'open'")


async def raise_a_gift(scene: Scene) -> None:
    await scene.sql(
        "UPDATE fundraiser_gifts SET amount_fen = 71 WHERE gift_id = (SELECT max(gift_id) FROM fundraiser_gifts)"
    )


async def return_to_another(scene: Scene) -> None:
    await scene.sql(
        _ENTRIES,
        "UPDATE transfers SET to_account = (SELECT account_id FROM accounts WHERE kind = 'wallet' AND owner = 'eve') "
        "WHERE kind = 'gift_return'",
    )


async def call_a_gift_held(scene: Scene) -> None:
    await scene.sql(_GIFTS, "UPDATE fundraiser_gifts SET return_transfer_id = NULL WHERE giver = 'ada'")


async def return_a_gift_twice(scene: Scene) -> None:
    await scene.sql(
        f"SELECT move_money('gift_return', {_FUND}, account_id, 60, 1) FROM accounts "
        "WHERE kind = 'wallet' AND owner = 'ada'"
    )


async def match_more(scene: Scene) -> None:
    await scene.sql(
        "UPDATE fundraiser_matches SET matched_fen = 39 WHERE match_id = (SELECT max(match_id) FROM fundraiser_matches)"
    )


async def make_a_fund_of_nobody(scene: Scene) -> None:
    await scene.sql("INSERT INTO accounts (account_id, kind) VALUES (nextval('wallet_ids'), 'fund')")


async def call_it_paid_out(scene: Scene) -> None:
    await scene.sql(
        "UPDATE fundraisers SET state = 'paid_out', decided_at_ms = 1, settled_at_ms = 1 WHERE state = 'open'"
    )


async def pay_another(scene: Scene) -> None:
    await scene.sql(_FUNDRAISERS, "UPDATE fundraisers SET beneficiary = 'eve' WHERE state = 'paid_out'")


FUNDS: list[tuple[Callable[[Scene], Awaitable[None]], str]] = [
    (take_from_a_fund, "is open, and its fund holds 169 fen, it should be 170"),
    (give_to_a_settled_fund, "is paid_out, and its fund holds 5 fen, it should be 0"),
    (forget_a_gift, "counts 2 gifts, where its rows have 1"),
    (miscount_gifts, "counts 131 fen of gifts, where its rows have 130"),
    (raise_a_gift, "its gift of 71 fen is not what entry"),
    (return_to_another, "its gift_return of 60 fen is not what entry"),
    (call_a_gift_held, "is returned, but 1 gifts are not"),
    (return_a_gift_twice, "a gift_return of 60 fen, belongs to no gift or match"),
    (match_more, "it has matched 39 fen, 40 were moved"),
    (make_a_fund_of_nobody, "belongs to no fundraiser"),
    (call_it_paid_out, "is paid_out, and its fund holds 170 fen, it should be 0"),
    (pay_another, "its fund_payout of 170 fen is not what entry"),
]
"""What is made wrong, and what the audit says of it."""
