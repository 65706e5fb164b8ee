"""Gifts to a fundraiser, from a wallet or from a share of a packet."""

from dataclasses import dataclass
from typing import Any

import asyncpg

from engine.errors import (
    FieldProblem,
    InsufficientFundsError,
    InvalidFieldsError,
    NotInLedgerError,
    ShareGivenError,
    UnknownFundraiserError,
)
from engine.fundraising.admission import SQL, TOO_LITTLE, Locked, admit, lock_open
from engine.fundraising.terms import amount_problems, matched, message_problems
from engine.ids import is_packet_number
from engine.ledger import idempotency
from engine.ledger.database import Connection, ledger_errors
from engine.ledger.money import move
from engine.risk import watch
from engine.risk.freezes import Freezes
from engine.settings import Settings

GIFT = "gift"


@dataclass(frozen=True, slots=True, kw_only=True)
class GiftTerms:
    """What somebody wants to give: an amount, or the share that they have of a packet."""

    amount_fen: int | None = None
    packet_id: str | None = None
    is_anonymous: bool = False
    message: str = ""

    @property
    def field(self) -> str:
        """The field that says how much it is."""
        return "amount_fen" if self.packet_id is None else "packet_id"


@dataclass(frozen=True, slots=True)
class _Gift:
    """A gift whose amount is known."""

    fundraiser_id: str
    giver: str
    amount_fen: int
    terms: GiftTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The answer to a gift. ``matched_fen``: what merchants added. ``transfer_id``: its ledger entry."""

    gift_id: str
    fundraiser_id: str
    amount_fen: int
    matched_fen: int
    transfer_id: str
    given_at_ms: int
    replayed: bool


class Giving:
    """Use cases of givers. Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings, freezes: Freezes) -> None:
        self._pool, self._settings, self._freezes = pool, settings, freezes

    async def give(
        self,
        fundraiser_id: str,
        giver: str,
        terms: GiftTerms,
        *,
        address: str = "",
        idempotency_key: str,
        request_hash: bytes,
    ) -> Given:
        """Give to a fundraiser, once per giver and Idempotency-Key.

        Raises InvalidFieldsError, UnknownFundraiserError, FundraiserEndedError, NotInLedgerError if the ledger has no
        share of the packet for the giver, ShareGivenError, as ``limits.admit`` does, and as ``idempotency.once`` does.
        """

        async def check() -> _Gift:
            return _Gift(fundraiser_id, giver, await self._checked(fundraiser_id, giver, terms), terms)

        async def work(connection: Connection, gift: _Gift) -> dict[str, Any]:
            return await self._give(connection, gift, address)

        request = idempotency.Request(principal=giver, operation="give", key=idempotency_key, request_hash=request_hash)
        answered = await idempotency.once(self._pool, request, check=check, work=work)
        if answered.checked is not None and not answered.replayed:
            await watch.freeze_if_large(self._freezes, self._settings, giver, answered.checked.amount_fen, what=GIFT)
        return Given(**answered.answer, replayed=answered.replayed)

    async def _checked(self, fundraiser_id: str, giver: str, terms: GiftTerms) -> int:
        """The amount. A share never changes, so it is looked up before anything is locked."""
        problems = message_problems(terms.message, self._settings.greeting_length_max)
        if (terms.amount_fen is None) == (terms.packet_id is None):
            problems.append(FieldProblem("amount_fen", "must be there if packet_id is not, and left out if it is"))
        if terms.packet_id is not None and not is_packet_number(terms.packet_id):
            problems.append(FieldProblem("packet_id", "must be the number of a packet: 19 digits"))
        if problems:
            raise InvalidFieldsError(problems)
        with ledger_errors():
            if await self._pool.fetchrow(SQL["fundraiser"], int(fundraiser_id)) is None:
                raise UnknownFundraiserError("No fundraiser has this number.")
        amount_fen = terms.amount_fen
        if amount_fen is None:
            amount_fen = await self._share(str(terms.packet_id), giver)
        if problems := amount_problems(terms.field, amount_fen, self._settings.gift_fen_max):
            raise InvalidFieldsError(problems)
        return amount_fen

    async def _share(self, packet_id: str, giver: str) -> int:
        with ledger_errors():
            row = await self._pool.fetchrow(SQL["share"], int(packet_id), giver)
        if row is None:
            raise NotInLedgerError("The ledger has no share of this packet for you (yet).")
        if row["asset"] is not None:
            raise InvalidFieldsError([FieldProblem("packet_id", "must be of money: only money can be given")])
        amount_fen: int = row["amount_fen"]
        return amount_fen

    async def _give(self, connection: Connection, gift: _Gift, address: str) -> dict[str, Any]:
        giver, terms, amount_fen = gift.giver, gift.terms, gift.amount_fen
        packet = None if terms.packet_id is None else int(terms.packet_id)
        wallet = await admit(
            connection, self._settings, giver, amount_fen, what=GIFT, address=address, field=terms.field
        )
        # The giver's wallet is locked, so nobody gives the same share on at the same time.
        if packet is not None and await connection.fetchval(SQL["is_given_on"], packet, giver):
            raise ShareGivenError("You have given this share before.")
        fund = await lock_open(connection, gift.fundraiser_id)
        matched_fen = await _match(connection, gift, fund) if fund.match_count else 0
        values = (int(gift.fundraiser_id), giver, amount_fen, matched_fen, terms.is_anonymous, terms.message, packet)
        row = await connection.fetchrow(SQL["give"], *values, fund.now_ms, wallet, fund.account_id)
        if row is None:
            raise InsufficientFundsError(TOO_LITTLE, terms.field)
        return {
            "gift_id": str(row["gift_id"]),
            "fundraiser_id": gift.fundraiser_id,
            "amount_fen": amount_fen,
            "matched_fen": matched_fen,
            "transfer_id": str(row["transfer_id"]),
            "given_at_ms": fund.now_ms,
        }


async def _match(connection: Connection, gift: _Gift, fund: Locked) -> int:
    """Let each match add to a gift, in the order in which they were made. Returns what they add in all."""
    in_all_fen = 0
    for row in await connection.fetch(SQL["matches"], int(gift.fundraiser_id)):
        matched_fen = matched(gift.amount_fen, row["percent"], row["budget_fen"] - row["matched_fen"])
        if matched_fen == 0:
            continue
        moved = await move(
            connection,
            "match",
            payer=row["account_id"],
            payee=fund.account_id,
            amount_fen=matched_fen,
            at_ms=fund.now_ms,
        )
        if moved is None:
            raise AssertionError("a match's account holds what is left of its budget")
        await connection.execute(SQL["count_matched"], row["match_id"], matched_fen)
        in_all_fen += matched_fen
    return in_all_fen
