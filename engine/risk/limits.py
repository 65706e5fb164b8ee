"""What can refuse a sender: a freeze, the kind of account, addresses, and limits per transaction, day and label.

Everything is checked inside the sending transaction, before anything is paid. The sender's wallet is locked first. So
the second of two simultaneous sendings sees what the first has counted, and no limit is ever passed.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

import asyncpg

from engine.calendar.china_time import begin_ms, day_of
from engine.errors import (
    AddressNotAllowedError,
    FieldProblem,
    FrozenError,
    InsufficientFundsError,
    InvalidFieldsError,
    LimitExceededError,
    LimitReachedError,
)
from engine.ledger.database import Connection
from engine.queries import load
from engine.records import Terms
from engine.settings import Settings

SQL = load("limits")
NO_END_MS = 2**53 - 1
"""The end of a freeze of sending that has none: it holds until someone lifts it (freezes.sql)."""


class AccountKind(StrEnum):
    """Whose account it is."""

    PERSON = "person"
    MERCHANT = "merchant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that an account may move, in fen: at once, and sent or received per day (China's). 0: no limit."""

    transaction_fen_max: int
    day_sent_fen_max: int
    day_received_fen_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a sending may be now. ``most_fen``: the largest total, None if nothing limits it.

    A merchant's addresses are not looked at: they are the sending's, not the sender's.
    """

    may_send: bool
    count_max: int
    most_fen: int | None


async def admit(
    connection: Connection, settings: Settings, sender: str, terms: Terms, *, address: str, at_ms: int
) -> None:
    """Check a sending, and count it in its day's totals if there is a limit.

    ``address``: where the request comes from, empty if unknown. Raises FrozenError, InsufficientFundsError if there
    is no wallet, LimitReachedError after too many retractions, AddressNotAllowedError, InvalidFieldsError naming
    ``count`` or ``asset``, LimitExceededError.
    """
    await lock(connection, sender)
    await admit_locked(connection, settings, sender, [terms], address=address, at_ms=at_ms)


async def lock(connection: Connection, sender: str) -> None:
    """Lock a sender's wallet until the transaction ends."""
    await connection.execute(SQL["lock_sender"], sender)


async def admit_locked(
    connection: Connection, settings: Settings, sender: str, sendings: Sequence[Terms], *, address: str, at_ms: int
) -> None:
    """As ``admit``, of several sendings, all or none. The sender's wallet is locked."""
    row = await connection.fetchrow(SQL["sender"], sender)
    if row is None:
        raise InsufficientFundsError("The wallet holds less than the packet's total.")
    _check_frozen(row["frozen"], row["sending_frozen_until_ms"], at_ms)
    kind = AccountKind(row["kind"])
    _check_address(address, row["addresses"])
    if kind is AccountKind.PERSON and any(terms.count > settings.count_max for terms in sendings):
        raise InvalidFieldsError([FieldProblem("count", f"must be at most {settings.count_max}")])
    for asset in {terms.asset for terms in sendings if terms.asset is not None}:
        await _check_card(connection, sender, asset, at_ms)
    of_money = [terms for terms in sendings if terms.asset is None]
    if not of_money:  # all other limits are about money
        return
    limits = limits_of(
        settings, kind, transaction_fen_max=row["transaction_fen_max"], day_sent_fen_max=row["day_sent_fen_max"]
    )
    if 0 < limits.transaction_fen_max < max(terms.total_fen for terms in of_money):
        raise LimitExceededError("transaction_fen_max", limits.transaction_fen_max, limits.transaction_fen_max)
    total_fen = sum(terms.total_fen for terms in of_money)
    await _spend(connection, ("day_sent_fen_max", limits.day_sent_fen_max), f"user:{sender}", total_fen, at_ms)
    for terms in of_money:
        if terms.label is not None:
            await _spend_of_label(connection, settings, terms.label, terms.total_fen, at_ms)


async def _spend_of_label(connection: Connection, settings: Settings, label: str, total_fen: int, at_ms: int) -> None:
    # The lock first: a limit that is set at the same time either holds for this sending or counts it.
    await connection.execute(SQL["take_turns"], label)
    own_fen_max = await connection.fetchval(SQL["label"], label)
    limit = ("label_day_sent_fen_max", label_limit_fen(settings, own_fen_max))
    await _spend(connection, limit, f"label:{label}", total_fen, at_ms)


async def _check_card(connection: Connection, sender: str, asset: str, at_ms: int) -> None:
    """Raise InvalidFieldsError if the asset is a card whose set the sender did not make, or whose time is over."""
    row = await connection.fetchrow(SQL["card"], asset)
    if row is None:
        return
    if row["sole_sender"] not in (None, sender):
        rule = "must not be a card of another user's set: give it, or offer it in exchange (POST /v1/card-sets/…)"
        raise InvalidFieldsError([FieldProblem("asset", rule)])
    if row["ends_at_ms"] is not None and at_ms >= row["ends_at_ms"]:
        raise InvalidFieldsError([FieldProblem("asset", "must not be a card of a set whose time is over")])


async def room_of(pool: asyncpg.Pool, settings: Settings, sender: str, label: str | None, at_ms: int) -> Room:
    """What ``admit`` would let pass at this moment. Only reads, so a sending may come in between and use it up."""
    row = await pool.fetchrow(SQL["sender"], sender)
    if row is None:  # without a wallet it is a person without a profile
        kind, may_send, limits = AccountKind.PERSON, True, limits_of(settings, AccountKind.PERSON)
    else:
        kind, until_ms = AccountKind(row["kind"]), row["sending_frozen_until_ms"]
        may_send = not row["frozen"] and (until_ms is None or until_ms <= at_ms)
        limits = limits_of(
            settings, kind, transaction_fen_max=row["transaction_fen_max"], day_sent_fen_max=row["day_sent_fen_max"]
        )
    days = [(f"user:{sender}", limits.day_sent_fen_max)]
    if label is not None:
        days.append((f"label:{label}", label_limit_fen(settings, await pool.fetchval(SQL["label"], label))))
    most = [limits.transaction_fen_max] if limits.transaction_fen_max else []
    for subject, limit_fen in days:
        if limit_fen:
            sent_fen: int = await pool.fetchval(SQL["sent"], subject, day_of(at_ms), *day_ms(at_ms))
            most.append(max(0, limit_fen - sent_fen))
    return Room(
        may_send=may_send,
        count_max=settings.count_max if kind is AccountKind.PERSON else settings.merchant_count_max,
        most_fen=min(most, default=None),
    )


async def check_address(connection: Connection, user_id: str, address: str) -> None:
    """Raise AddressNotAllowedError if the account may not pay from this address."""
    _check_address(address, await connection.fetchval(SQL["addresses"], user_id) or [])


def label_limit_fen(settings: Settings, own_fen_max: int | None) -> int:
    """The limit of a label: its own, or the setting. 0: no limit."""
    return settings.label_day_sent_fen_max if own_fen_max is None else own_fen_max


def limits_of(
    settings: Settings,
    kind: AccountKind,
    *,
    transaction_fen_max: int | None = None,
    day_sent_fen_max: int | None = None,
    day_received_fen_max: int | None = None,
) -> Limits:
    """The limits of an account: its own or, if it has none, the settings' for its kind. 0: no limit."""
    is_person = kind is AccountKind.PERSON
    defaults = (
        0 if is_person else settings.merchant_transaction_fen_max,
        settings.person_day_sent_fen_max if is_person else settings.merchant_day_sent_fen_max,
        settings.person_day_received_fen_max if is_person else 0,
    )
    own = (transaction_fen_max, day_sent_fen_max, day_received_fen_max)
    transaction, sent, received = (
        default if limit is None else limit for limit, default in zip(own, defaults, strict=True)
    )
    return Limits(transaction_fen_max=transaction, day_sent_fen_max=sent, day_received_fen_max=received)


def day_ms(at_ms: int) -> tuple[int, int]:
    """When the day of a moment begins and ends in China."""
    day = day_of(at_ms)
    return begin_ms(day), begin_ms(day + timedelta(days=1))


def _check_frozen(is_frozen: bool, sending_until_ms: int | None, at_ms: int) -> None:
    """Raise FrozenError, or LimitReachedError if the freeze has an end: only the rule about retractions sets one."""
    if is_frozen or sending_until_ms == NO_END_MS:
        raise FrozenError("This account is frozen and cannot send.")
    if sending_until_ms is not None and at_ms < sending_until_ms:
        why = "This account has retracted too many packets within an hour. It can send again from until_ms on."
        raise LimitReachedError(why, "retractions_an_hour_max", sending_until_ms)


def _check_address(address: str, networks: list[str]) -> None:
    if networks and not is_in(address, networks):
        raise AddressNotAllowedError("This merchant account may not send from the address of this request.")


def is_in(address: str, networks: list[str]) -> bool:
    """Whether an address is in one of these networks. An invalid address is in none."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found in ipaddress.ip_network(network) for network in networks)


async def _spend(connection: Connection, limit: tuple[str, int], subject: str, amount_fen: int, at_ms: int) -> None:
    """Count an amount in a subject's day. Raises LimitExceededError if it exceeds ``limit`` (its name and value)."""
    name, limit_fen = limit
    if not limit_fen:
        return
    values = (subject, day_of(at_ms), amount_fen, limit_fen, *day_ms(at_ms))
    (row,) = await connection.fetch(SQL["spend"], *values)
    if not row["is_within"]:
        left_fen = max(0, limit_fen - row["before_fen"])
        raise LimitExceededError(name, limit_fen, left_fen, until_ms=day_ms(at_ms)[1])
