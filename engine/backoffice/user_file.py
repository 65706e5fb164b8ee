"""One user as operators see them: wallet, limits, freezes, debts, disputes, alerts, places, notes.

Long lists (entries, packets, withdrawals) have pages of their own, by the use cases of their rooms.
"""

from dataclasses import dataclass
from datetime import timedelta

import asyncpg

from engine.backoffice.notes import Note, Notes, SubjectKind
from engine.calendar.china_time import begin_ms, day_of
from engine.disputes.lists import DisputeLists, ListedDispute
from engine.ledger.database import ledger_errors
from engine.ledger.money import now_ms
from engine.queries import load
from engine.risk.alert_desk import AlertDesk, AlertFilter, ListedAlert
from engine.risk.profiles import Account, Profiles
from engine.wallets.users import Holding, Users
from engine.wallets.wallets import Wallet, Wallets

SQL = load("user_file")
LISTED_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A network from which a user moved money."""

    network: str
    first_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What somebody owes the user by a dispute's decision."""

    debt_id: int
    dispute_id: int
    debtor: str
    amount_fen: int
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UserFile:
    """``is_known``: the user has a wallet. Without one nobody has paid or frozen them. Lists: the newest first."""

    user_id: str
    is_known: bool
    wallet: Wallet
    holdings: list[Holding]
    account: Account
    sent_today_fen: int
    owed_to: list[Claim]
    disputes: list[ListedDispute]
    alerts: list[ListedAlert]
    places: list[Place]
    notes: list[Note]


class UserFiles:
    """Reads the ledger. Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool, wallets: Wallets, profiles: Profiles) -> None:
        self._pool, self._wallets, self._profiles = pool, wallets, profiles

    async def one(self, user_id: str) -> UserFile:
        """A user. One that nobody has heard of has an empty wallet."""
        users = Users(self._pool)
        with ledger_errors():
            places = await self._pool.fetch(SQL["places"], user_id, LISTED_MAX)
            owed = await self._pool.fetch(SQL["owed_to"], user_id, LISTED_MAX)
            day = day_of(await now_ms(self._pool))
            bounds = (begin_ms(day), begin_ms(day + timedelta(days=1)))
            sent_fen = await self._pool.fetchval(SQL["sent_today"], user_id, day, *bounds)
        alerts = await AlertDesk(self._pool).page(AlertFilter(user_id=user_id), after=None, limit=LISTED_MAX)
        notes = await Notes(self._pool).page(SubjectKind.USER, user_id, after=None, limit=LISTED_MAX)
        return UserFile(
            user_id=user_id,
            is_known=await users.exists(user_id),
            wallet=await self._wallets.get(user_id),
            holdings=(await users.holdings(user_id, after=None, limit=LISTED_MAX)).rows,
            account=await self._profiles.account(user_id),
            sent_today_fen=sent_fen,
            owed_to=[Claim(**row) for row in owed],
            disputes=await DisputeLists(self._pool).of_user(user_id),
            alerts=alerts.rows,
            places=[Place(**row) for row in places],
            notes=notes.rows,
        )
