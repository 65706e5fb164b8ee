"""Profiles of accounts and groups: the kind, a merchant's addresses, the limits."""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from engine.errors import FieldProblem, InvalidFieldsError
from engine.ledger.database import ledger_change, ledger_errors
from engine.ledger.money import lock_wallet, now_ms
from engine.networks import network_in
from engine.queries import load
from engine.records import FreezeScope
from engine.risk.freezes import LISTED_MAX, Freeze, Freezes
from engine.risk.limits import SQL as RULES
from engine.risk.limits import AccountKind, Limits, label_limit_fen, limits_of
from engine.risk.limits_reached import LimitReached, LimitsReached
from engine.risk.receiving import Receiving
from engine.settings import Settings

SQL = load("profiles")
ADDRESSES_MAX = 100
_LIMITS = ("transaction_fen_max", "day_sent_fen_max", "day_received_fen_max")
_NETWORK_RULE = "must be an address, or a network with no bits set after its prefix (192.0.2.0/24)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A user's profile. If a limit is None, the setting applies. ``limits``: the limits that apply.

    ``addresses``: the networks it may send from; empty: from any. ``changed_*`` None: nobody has set the profile yet.
    """

    user_id: str
    kind: AccountKind
    addresses: list[str]
    transaction_fen_max: int | None
    day_sent_fen_max: int | None
    day_received_fen_max: int | None
    limits: Limits
    changed_by: str | None
    changed_at_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelLimit:
    """A group's limit. ``day_sent_fen_max`` None: the setting's. ``limit_fen``: the limit that holds, 0: none."""

    label: str
    day_sent_fen_max: int | None
    limit_fen: int
    changed_by: str
    changed_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Debt:
    """What a user owes by a dispute's decision that their wallet could not pay."""

    debt_id: int
    dispute_id: int
    creditor: str
    amount_fen: int
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Everything known of an account. ``frozen``: what is in force. ``freezes``, ``debts``: the last, newest first.

    ``limit_reached``: the limit on what is received in a day, if it stops the user now.
    """

    profile: Profile
    limit_reached: LimitReached | None
    frozen: list[FreezeScope]
    freezes: list[Freeze]
    debts: list[Debt]


class Profiles:
    """Use cases over accounts and labels. Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool, freezes: Freezes, reached: LimitsReached, settings: Settings) -> None:
        self._pool, self._freezes, self._reached, self._settings = pool, freezes, reached, settings
        self._receiving = Receiving(pool, reached, settings)

    async def account(self, user_id: str) -> Account:
        """Everything known of an account. An unknown user is a person."""
        with ledger_errors():
            row = await self._pool.fetchrow(SQL["profile"], user_id)
            debts = await self._pool.fetch(SQL["debts"], user_id, LISTED_MAX)
            at_ms = await now_ms(self._pool)
        return Account(
            profile=self._profile(user_id, row),
            limit_reached=await self._reached.of(user_id, at_ms),
            frozen=await self._freezes.in_force(user_id),
            freezes=await self._freezes.of(user_id),
            debts=[Debt(**debt) for debt in debts],
        )

    async def put(
        self, user_id: str, kind: AccountKind, addresses: Sequence[str], own: dict[str, int | None], *, changed_by: str
    ) -> Profile:
        """Replace an account's profile.

        ``own``: the account's own limits, by their names in ``Limits``; None: the setting. Raises InvalidFieldsError.
        """
        networks = _networks(kind, addresses)
        with ledger_errors(is_undone=True):
            await self._receiving.begin()
        async with ledger_change(self._pool) as connection:
            # Lock as a sending does: so each sending has either the former limits or these. The day is counted again.
            wallet = await lock_wallet(connection, user_id)
            limits = [own.get(name) for name in _LIMITS]
            at_ms = await now_ms(connection)
            await connection.execute(SQL["put"], user_id, kind, networks, *limits, changed_by, at_ms)
            await connection.execute(SQL["forget"], f"user:{user_id}")
            row = await connection.fetchrow(SQL["profile"], user_id)
            await self._receiving.look_at(connection, wallet.account_id)
        await self._reached.spread()
        return self._profile(user_id, row)

    async def put_label(self, label: str, day_sent_fen_max: int | None, *, changed_by: str) -> LabelLimit:
        """Set how much may be sent to a group per day. None: the setting. 0: no limit."""
        async with ledger_change(self._pool) as connection:
            await connection.execute(RULES["take_turns"], label)
            at_ms = await now_ms(connection)
            await connection.execute(SQL["put_label"], label, day_sent_fen_max, changed_by, at_ms)
            await connection.execute(SQL["forget"], f"label:{label}")
        return LabelLimit(
            label=label,
            day_sent_fen_max=day_sent_fen_max,
            limit_fen=label_limit_fen(self._settings, day_sent_fen_max),
            changed_by=changed_by,
            changed_at_ms=at_ms,
        )

    def _profile(self, user_id: str, row: asyncpg.Record | None) -> Profile:
        kind = AccountKind.PERSON if row is None else AccountKind(row["kind"])
        own: dict[str, int | None] = {name: None if row is None else row[name] for name in _LIMITS}
        return Profile(
            user_id=user_id,
            kind=kind,
            addresses=[] if row is None else row["addresses"],
            transaction_fen_max=own["transaction_fen_max"],
            day_sent_fen_max=own["day_sent_fen_max"],
            day_received_fen_max=own["day_received_fen_max"],
            limits=limits_of(self._settings, kind, **own),
            changed_by=None if row is None else row["changed_by"],
            changed_at_ms=None if row is None else row["changed_at_ms"],
        )


def _networks(kind: AccountKind, addresses: Sequence[str]) -> list[str]:
    """The networks in the form in which they are compared. Raises InvalidFieldsError naming each invalid one."""
    if addresses and kind is not AccountKind.MERCHANT:
        raise InvalidFieldsError([FieldProblem("addresses", "must be empty for a person: only merchants have any")])
    if len(addresses) > ADDRESSES_MAX:
        raise InvalidFieldsError([FieldProblem("addresses", f"must name at most {ADDRESSES_MAX} networks")])
    networks, problems = [], []
    for place, text in enumerate(addresses):
        try:
            networks.append(str(network_in(text)))
        except ValueError:
            problems.append(FieldProblem(f"addresses[{place}]", _NETWORK_RULE))
    if problems:
        raise InvalidFieldsError(problems)
    return networks
