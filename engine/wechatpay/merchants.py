"""Merchants: which account of ours pays for a mch_id, with which appids, keys and certificates."""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Literal

import asyncpg

from engine.errors import FieldProblem, InvalidFieldsError, UnknownWechatpayMerchantError
from engine.ids import USER_ID_RULE, is_user_id
from engine.ledger.database import ledger_change, ledger_errors
from engine.ledger.money import now_ms
from engine.queries import load
from engine.wechatpay.keys import SealingKeys, new_api_key
from engine.wechatpay.rsa_keys import new_rsa_pair

SQL = load("wechatpay")
APPIDS_MAX, CERTIFICATES_MAX = 100, 16
FRESH_S = 1.0
"""How long a process goes by what it knows of a merchant."""
MCH_ID_RULE = "must have 6 to 32 digits"
APPID_RULE = "must have 1 to 32 of A-Z a-z 0-9 _ -"
CERTIFICATE_RULE = "must be the SHA-256 of a certificate: 64 hexadecimal digits"
Which = Literal["v2", "v3", "rsa"]
_KNOWN_MAX = 1_000
_MCH_ID = re.compile(r"[0-9]{6,32}", re.ASCII)
_APPID = re.compile(r"[A-Za-z0-9_-]{1,32}", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Merchant:
    """A merchant without its keys. ``account``: who pays. ``certificates``: SHA-256, in hexadecimal.

    ``serial_no``: of the RSA key that signs its calls of the third version.
    """

    mch_id: str
    account: str
    appids: list[str]
    certificates: list[str]
    is_sandbox: bool
    is_closed: bool
    serial_no: str | None
    created_at_ms: int
    changed_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MerchantKept:
    """A merchant after a change. Keys: only those that were made just now; nobody can see them again.

    ``rsa_key``: the private key, in PEM, whose public one is kept.
    """

    merchant: Merchant
    v2_key: str | None = field(repr=False)
    v3_key: str | None = field(repr=False)
    rsa_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MerchantsPage:
    """Merchants in the order of their numbers."""

    merchants: list[Merchant]
    next: str | None


@dataclass(frozen=True, slots=True)
class Keyed:
    """A merchant with its keys, for checking its calls."""

    merchant: Merchant
    v2_key: str = field(repr=False)
    v3_key: str = field(repr=False)
    rsa_public: str | None = None


class Merchants:
    """Use cases over merchants. Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool, keys: SealingKeys) -> None:
        self._pool, self._keys = pool, keys
        self._known: OrderedDict[str, tuple[float, Keyed]] = OrderedDict()

    async def put(
        self,
        mch_id: str,
        account: str,
        *,
        appids: Sequence[str],
        certificates: Sequence[str] = (),
        is_sandbox: bool = False,
        is_closed: bool = False,
    ) -> MerchantKept:
        """Add a merchant with new keys, or change one, whose keys stay.

        Raises InvalidFieldsError, NoWechatpayKeyError.
        """
        hashes = [text.replace(":", "").lower() for text in certificates]
        _check(mch_id, account, appids, hashes)
        v2_key, v3_key = new_api_key(), new_api_key()
        key_id, sealed_v2 = self._keys.seal(mch_id, "v2", v2_key)
        _, sealed_v3 = self._keys.seal(mch_id, "v3", v3_key)
        async with ledger_change(self._pool) as connection:
            (row,) = await connection.fetch(
                SQL["put_merchant"],
                *(
                    mch_id,
                    account,
                    list(dict.fromkeys(appids)),
                    [bytes.fromhex(text) for text in dict.fromkeys(hashes)],
                ),
                *(is_sandbox, is_closed, key_id, sealed_v2, sealed_v3, await now_ms(connection)),
            )
        self._known.pop(mch_id, None)
        made = (v2_key, v3_key) if row["is_new"] else (None, None)
        return MerchantKept(merchant=await self.get(mch_id), v2_key=made[0], v3_key=made[1])

    async def renew_key(self, mch_id: str, which: Which) -> MerchantKept:
        """Make a new API key. The one before is refused within FRESH_S. Raises UnknownWechatpayMerchantError."""
        if which == "rsa":
            return await self._renew_rsa(mch_id)
        api_key = new_api_key()
        sealed = self._keys.seal(mch_id, which, api_key)
        async with ledger_change(self._pool) as connection:
            at_ms = await now_ms(connection)
            sql = SQL["set_v2_key"] if which == "v2" else SQL["set_v3_key"]
            if await connection.fetchval(sql, mch_id, *sealed, at_ms) is None:
                raise _unknown()
        self._known.pop(mch_id, None)
        kept = {"v2_key": None, "v3_key": None, f"{which}_key": api_key}
        return MerchantKept(merchant=await self.get(mch_id), **kept)

    async def _renew_rsa(self, mch_id: str) -> MerchantKept:
        await self._row(mch_id)
        made = await asyncio.to_thread(new_rsa_pair)
        async with ledger_change(self._pool) as connection:
            at_ms = await now_ms(connection)
            await connection.fetchval(SQL["set_rsa_key"], mch_id, made.public, made.serial_no, at_ms)
        self._known.pop(mch_id, None)
        return MerchantKept(merchant=await self.get(mch_id), v2_key=None, v3_key=None, rsa_key=made.private)

    async def get(self, mch_id: str) -> Merchant:
        """A merchant. Raises UnknownWechatpayMerchantError."""
        return _merchant(await self._row(mch_id))

    async def page(self, *, after: str | None, limit: int) -> MerchantsPage:
        """Merchants with numbers after this one. Raises InvalidFieldsError for a cursor that is none."""
        if after is not None and not _MCH_ID.fullmatch(after):
            raise InvalidFieldsError([FieldProblem("after", "must be the `next` of the page before")])
        with ledger_errors():
            rows = await self._pool.fetch(SQL["merchants"], after or "", limit + 1)
        found = [_merchant(row) for row in rows[:limit]]
        return MerchantsPage(merchants=found, next=found[-1].mch_id if len(rows) > limit else None)

    async def keyed(self, mch_id: str) -> Keyed:
        """A merchant with its keys, as known for up to FRESH_S.

        Raises UnknownWechatpayMerchantError, NoWechatpayKeyError.
        """
        known = self._known.get(mch_id)
        if known is not None and monotonic() - known[0] < FRESH_S:
            return known[1]
        row, read_at_s = await self._row(mch_id), monotonic()
        v2_key, v3_key = (
            self._keys.unseal(mch_id, use, row[f"{use}_key_id"], row[f"{use}_key"]) for use in ("v2", "v3")
        )
        keyed = Keyed(_merchant(row), v2_key, v3_key, row["rsa_public"])
        self._known[mch_id] = (read_at_s, keyed)
        self._known.move_to_end(mch_id)
        if len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)
        return keyed

    async def _row(self, mch_id: str) -> asyncpg.Record:
        with ledger_errors(is_undone=True):
            row = await self._pool.fetchrow(SQL["merchant"], mch_id)
        if row is None:
            raise _unknown()
        return row


def is_mch_id(text: str) -> bool:
    """Whether ``text`` has the form of a merchant's number."""
    return _MCH_ID.fullmatch(text) is not None


def _unknown() -> UnknownWechatpayMerchantError:
    return UnknownWechatpayMerchantError("No merchant has this number.")


def _check(mch_id: str, account: str, appids: Sequence[str], hashes: Sequence[str]) -> None:
    problems = []
    if not is_mch_id(mch_id):
        problems.append(FieldProblem("mch_id", MCH_ID_RULE))
    if not is_user_id(account):
        problems.append(FieldProblem("account", USER_ID_RULE))
    if not 1 <= len(appids) <= APPIDS_MAX:
        problems.append(FieldProblem("appids", f"must have 1 to {APPIDS_MAX} items"))
    elif not all(_APPID.fullmatch(appid) for appid in appids):
        problems.append(FieldProblem("appids", f"each {APPID_RULE}"))
    if len(hashes) > CERTIFICATES_MAX:
        problems.append(FieldProblem("certificates", f"must have at most {CERTIFICATES_MAX} items"))
    elif not all(_HASH.fullmatch(text) for text in hashes):
        problems.append(FieldProblem("certificates", f"each {CERTIFICATE_RULE}"))
    if problems:
        raise InvalidFieldsError(problems)


def _merchant(row: asyncpg.Record) -> Merchant:
    return Merchant(
        mch_id=row["mch_id"],
        account=row["account"],
        appids=row["appids"],
        certificates=[digest.hex() for digest in row["certificates"]],
        is_sandbox=row["is_sandbox"],
        is_closed=row["is_closed"],
        serial_no=row["rsa_serial_no"],
        created_at_ms=row["created_at_ms"],
        changed_at_ms=row["changed_at_ms"],
    )
