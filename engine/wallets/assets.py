"""What the ledger counts in besides its currency: points, coupons of a batch, cards of a set.

Each account holds one asset, and nothing moves between accounts of two. An asset's issuer owes what all others hold of
it, so all balances of an asset sum to zero. An amount is a whole number of 10^-scale of its asset.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass

import asyncpg

from engine.coupons import numbers as coupon_numbers
from engine.errors import AssetExistsError, FieldProblem, InvalidFieldsError, LimitExceededError, UnknownAssetError
from engine.ledger import idempotency
from engine.ledger.currency import SCALE
from engine.ledger.database import Connection, ledger_change, ledger_errors
from engine.ledger.money import lock_wallet, move, now_ms
from engine.queries import load
from engine.records import FEN_MAX
from engine.settings import Settings

SQL = load("assets")
CODE_PATTERN = r"[A-Z][A-Z0-9_]{2,31}"
CODE_RULE = "must be 3 to 32 of A-Z 0-9 _ and begin with a letter"
SCALE_MAX = 6
NAME_LENGTH_MAX = 40
_CODE = re.compile(CODE_PATTERN, re.ASCII)
_CARD_CODE = re.compile(r"CARD_[0-9]+_[0-9]+", re.ASCII)
_KNOWN_MAX = 10_000
_UNKNOWN = "must be one of those that GET /v1/assets lists"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """An asset. ``issued_fen``: what is held of it, by users and in packets, in the smallest unit."""

    asset: str
    scale: int
    name: str
    created_at_ms: int
    issued_fen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetsPage:
    """Assets in the order of their codes."""

    assets: list[Asset]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A user's balance of an asset, in the smallest unit."""

    asset: str
    scale: int
    name: str
    balance_fen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldingsPage:
    """A user's balances of the assets that they have ever had, in the order of codes. Money is in the wallet."""

    holdings: list[Holding]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """The answer to an issue: the entry's number, and the user's balance after it."""

    transfer_id: str
    user_id: str
    asset: str
    amount_fen: int
    balance_fen: int
    replayed: bool


@dataclass(frozen=True, slots=True)
class Known:
    """What never changes of an asset. ``issuer``: its account. None for the ledger's currency.

    ``sole_sender``: only this user sends packets of it, and nobody issues more of it. None: there is no such rule.
    """

    asset: str
    scale: int
    issuer: int | None = None
    sole_sender: str | None = None

    @property
    def code(self) -> str | None:
        """The asset as the ledger has it: None for its currency."""
        return None if self.issuer is None else self.asset


class Assets:
    """Use cases of assets. Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        self._pool, self._settings = pool, settings
        self._known: OrderedDict[str, Known] = OrderedDict()

    async def define(self, asset: str, *, scale: int, name: str) -> Asset:
        """Add an asset. The same again changes nothing.

        Raises AssetExistsError if there is one of this code with another scale or name, or it is the ledger's currency,
        or the code is one of those that sets of cards have.
        """
        if _CARD_CODE.fullmatch(asset):
            raise AssetExistsError("Such codes belong to the cards of sets: choose another.")
        if asset == self._settings.currency:
            raise AssetExistsError(f"{asset} is the ledger's currency.")
        async with ledger_change(self._pool) as connection:
            await connection.execute(SQL["add"], asset, scale, name)
        found = await self.get(asset)
        if (found.scale, found.name) != (scale, name):
            raise AssetExistsError(
                f"{asset} has the scale {found.scale} and the name {found.name}, which never change."
            )
        return found

    async def get(self, asset: str) -> Asset:
        """An asset. Raises UnknownAssetError."""
        with ledger_errors():
            row = await self._pool.fetchrow(SQL["asset"], asset)
            if row is None:
                raise UnknownAssetError("No asset has this code.")
            issued_fen: int = await self._pool.fetchval(SQL["issued"], row["issuer"])
        return Asset(
            asset=asset,
            scale=row["scale"],
            name=row["name"],
            created_at_ms=row["created_at_ms"],
            issued_fen=issued_fen,
        )

    async def page(self, *, after: str | None, limit: int) -> AssetsPage:
        """Some assets. Raises InvalidFieldsError for an invalid cursor."""
        with ledger_errors():
            rows = await self._pool.fetch(SQL["page"], _cursor(after), limit + 1)
        assets = [Asset(**row) for row in rows[:limit]]
        return AssetsPage(assets=assets, next=assets[-1].asset if len(rows) > limit else None)

    async def holdings(self, user_id: str, *, after: str | None, limit: int) -> HoldingsPage:
        """Some of a user's balances. Raises InvalidFieldsError for an invalid cursor."""
        with ledger_errors():
            rows = await self._pool.fetch(SQL["holdings"], user_id, _cursor(after), limit + 1)
        holdings = [Holding(**row) for row in rows[:limit]]
        return HoldingsPage(holdings=holdings, next=holdings[-1].asset if len(rows) > limit else None)

    async def named(self, asset: str | None) -> Known:
        """The asset that a request names in its field ``asset``; without one, the ledger's currency.

        Raises InvalidFieldsError if there is none of this code.
        """
        if asset is None or asset == self._settings.currency:
            return Known(self._settings.currency, SCALE)
        if (known := self._known.get(asset)) is not None:
            return known
        if not _CODE.fullmatch(asset):
            raise InvalidFieldsError([FieldProblem("asset", CODE_RULE)])
        with ledger_errors():
            row = await self._pool.fetchrow(SQL["asset"], asset)
        if row is None:
            raise InvalidFieldsError([FieldProblem("asset", _UNKNOWN)])
        self._known[asset] = known = Known(asset, row["scale"], row["issuer"], row["sole_sender"])
        if len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)
        return known

    async def issue(
        self, user_id: str, amount_fen: int, known: Known, *, idempotency_key: str, request_hash: bytes
    ) -> Issued:
        """Make some of an asset and give it to a user, once per user and Idempotency-Key, whichever admin asks.

        Raises InvalidFieldsError, also for coupons: a batch has as many as it was made with. Raises LimitExceededError
        if more were held than JSON can tell exactly, and as ``idempotency.once`` does.
        """

        async def check() -> None:
            if not 1 <= amount_fen <= FEN_MAX:
                raise InvalidFieldsError([FieldProblem("amount_fen", f"must be from 1 to {FEN_MAX}")])
            if known.sole_sender is not None:
                rule = "must not be a card: all there are of it were issued when its set was made"
                raise InvalidFieldsError([FieldProblem("asset", rule)])

        async def work(connection: Connection, _: None) -> dict[str, str | int]:
            return await _issue(connection, user_id, amount_fen, known)

        request = idempotency.Request(
            principal=user_id, operation="deposit_into", key=idempotency_key, request_hash=request_hash
        )
        answered = await idempotency.once(self._pool, request, check=check, work=work)
        return Issued(**answered.answer, replayed=answered.replayed)


def card_code(set_number: int, card: int) -> str:
    """The code of a card of a set."""
    return f"CARD_{set_number}_{card}"


async def hold(connection: Connection, user_id: str, asset: str) -> int:
    """A user's account of an asset, made if there is none, and locked until the transaction ends."""
    await connection.execute(SQL["create_holding"], user_id, asset)
    account_id: int = await connection.fetchval(SQL["lock_holding"], user_id, asset)
    return account_id


async def _issue(connection: Connection, user_id: str, amount_fen: int, known: Known) -> dict[str, str | int]:
    if known.issuer is None:
        raise AssertionError("the ledger's currency is deposited")
    if await coupon_numbers.batch_of(connection, known.asset) is not None:
        raise InvalidFieldsError([FieldProblem("asset", "must not be of coupons: a batch never gets more of them")])
    # The issuer first, though many a wallet is older: only issues ask for it, so none waits for it with a wallet
    # that a lane's batch waits for. Then in the order of their numbers, as everybody does.
    issued_fen: int = -await connection.fetchval(SQL["lock_issuer"], known.issuer)
    await lock_wallet(connection, user_id)  # everybody who holds something has a wallet: freezes and limits are there
    if amount_fen > FEN_MAX - issued_fen:
        unit = f"× 10^-{known.scale} {known.asset}" if known.scale else str(known.asset)
        raise LimitExceededError("issued_fen_max", FEN_MAX, FEN_MAX - issued_fen, field="amount_fen", unit=unit)
    holding = await hold(connection, user_id, known.asset)
    at_ms = await now_ms(connection)
    transfer_id = await move(connection, "issue", payer=known.issuer, payee=holding, amount_fen=amount_fen, at_ms=at_ms)
    return {
        "transfer_id": str(transfer_id),
        "user_id": user_id,
        "asset": known.asset,
        "amount_fen": amount_fen,
        "balance_fen": await connection.fetchval(SQL["balance"], holding),
    }


def _cursor(after: str | None) -> str:
    if after is not None and not _CODE.fullmatch(after):
        raise InvalidFieldsError([FieldProblem("after", "must be the `next` of the page before")])
    return after or ""
