"""The anchors that clean audits keep in the ledger, so that the next audit goes on from the last one.

An anchor is signed with a secret that the database does not have: whoever may write there can neither change one nor
make one. It has a digest of ``audited_balances``, each account's entries in sum, which is moved on with each anchor.
"""

import asyncio
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import asyncpg
import orjson

from engine.access.keyring import Keyring, Secret
from engine.auditing.anchors import Head
from engine.auditing.spans import ID_MIN, Cut, LaneEnd, Span
from engine.calendar.china_time import CHINA
from engine.ledger.database import Connection, ledger_change
from engine.queries import load

SQL = load("kept")
FIRST_PART_MAX = 100_000
"""How many entries the part before the first anchor may have, to be walked again in turn."""
_LABEL = b"hongbao audit anchor"
_CUT_S_MAX, _LOOK_S = 5.0, 0.02
_COPY_S_MAX = 3_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An anchor. ``is_genuine`` None: the secret that signed it is not in force any more.

    A cut of one that is not genuine has no lanes.
    """

    audit_id: int
    at_ms: int
    own_entries: int
    cut: Cut
    digest: bytes
    is_genuine: bool | None

    @property
    def heads(self) -> list[Head]:
        """The ends of the lanes' chains."""
        lanes = sorted(self.cut.lanes.items())
        return [Head(lane, end.position, end.hash.hex()) for lane, end in lanes if end.hash is not None]

    @property
    def name(self) -> str:
        """Its name in a sentence."""
        try:
            at = datetime.fromtimestamp(self.at_ms / 1000, UTC).astimezone(CHINA)
        except (OverflowError, ValueError):  # somebody has changed it
            return f"audit {self.audit_id}"
        return f"the audit of {at:%Y-%m-%d %H:%M} (China)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What is between two anchors (``before`` None: up to the first)."""

    before: Kept | None
    last: Kept

    @property
    def span(self) -> Span:
        """The part of history."""
        return Span(after=None if self.before is None else self.before.cut, up_to=self.last.cut)

    @property
    def forged(self) -> list[str]:
        """One sentence per end that is not as an audit kept it."""
        ends = (self.last,) if self.before is None else (self.before, self.last)
        return [f"{end.name}: its anchor was changed or forged" for end in ends if end.is_genuine is False]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An anchor that may be kept if nothing is wrong. ``begun_from``: the newest one when it was read."""

    begun_from: int | None
    at_ms: int
    begins: bool
    is_full: bool
    walked_again: int | None
    cut: Cut
    after_id: int
    entries: int
    own_entries: int
    digest: bytes


class _Key:
    """A key for anchors, derived from a secret for tokens. Its id tells nothing of it."""

    def __init__(self, secret: Secret) -> None:
        self._value = hmac.digest(secret.value, _LABEL, sha256)
        self.key_id = hmac.digest(self._value, b"key id", sha256)[:8].hex()

    def signature(self, values: Mapping[str, Any]) -> bytes:
        """The signature of an anchor with these values."""
        return hmac.digest(self._value, orjson.dumps(values, option=orjson.OPT_SORT_KEYS), sha256)


async def cut_id(pool: asyncpg.Pool) -> int | None:
    """The last entry. All transactions that were open when it was read have ended since. None: one goes on too long.

    Every transaction takes its own number before it takes numbers for entries, because it locks a row first.
    """
    async with pool.acquire() as connection:
        last: int = await connection.fetchval(SQL["last_transfer"])
        number = await connection.fetchval(SQL["transaction"])
        ends_s = asyncio.get_running_loop().time() + _CUT_S_MAX
        while await connection.fetchval(SQL["oldest"]) <= number:
            if asyncio.get_running_loop().time() > ends_s:
                return None
            await asyncio.sleep(_LOOK_S)
    return last


async def newest(connection: Connection, keyring: Keyring | None) -> Kept | None:
    """The newest anchor, if there is one."""
    row = await connection.fetchrow(SQL["newest"])
    return None if row is None else _read(row, keyring)


async def part_to_walk(connection: Connection, keyring: Keyring | None) -> Part | None:
    """The part of audited history that was walked longest ago."""
    row = await connection.fetchrow(SQL["part_to_walk"], FIRST_PART_MAX)
    if row is None:
        return None
    rows = await connection.fetch(SQL["anchors"], [row["before"], row["audit_id"]])
    ends = [_read(end, keyring) for end in rows]
    return Part(before=ends[0] if len(ends) > 1 else None, last=ends[-1])


def _read(row: asyncpg.Record, keyring: Keyring | None) -> Kept:
    values = dict(row)
    signature, values["lanes"] = values.pop("signature"), orjson.loads(values["lanes"])
    secrets = () if keyring is None else keyring.secrets
    keys = [key for key in map(_Key, secrets) if key.key_id == row["key_id"]]
    genuine = [hmac.compare_digest(key.signature(_signed(values)), signature) for key in keys]
    is_genuine = any(genuine) if genuine else None
    lanes: dict[int, LaneEnd] = {}
    if is_genuine is not False:
        try:
            lanes = _lanes(values["lanes"])
        except (AttributeError, KeyError, TypeError, ValueError):  # no audit has written this
            is_genuine = False
    return Kept(
        audit_id=row["audit_id"],
        at_ms=row["at_ms"],
        own_entries=row["own_entries"],
        cut=Cut(transfer_id=row["transfer_id"], last_transfer_id=row["last_transfer_id"], lanes=lanes),
        digest=row["balances_digest"],
        is_genuine=is_genuine,
    )


def _lanes(values: Mapping[str, Any]) -> dict[int, LaneEnd]:
    return {
        int(lane): LaneEnd(
            position=end["position"],
            hash=None if end["hash"] is None else bytes.fromhex(end["hash"]),
            opened=end["opened"],
            closed=end["closed"],
        )
        for lane, end in values.items()
    }


def _signed(values: Mapping[str, Any]) -> dict[str, Any]:
    """An anchor's values as they are signed: JSON has no bytes."""
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in values.items()}


async def contradictions(connection: Connection, start: Kept) -> list[str]:
    """What is not as the anchor says, apart from the lanes' chains: one sentence each."""
    problems = []
    last = start.cut.transfer_id
    if last and not await connection.fetchval(SQL["has_transfer"], last):
        problems.append(f"entry {last}: it was there at {start.name}, and is gone from the ledger")
    if not hmac.compare_digest(await digest_now(connection), start.digest):
        problems.append(f"{start.name}: the balances that it kept were changed")
    return problems


async def digest_now(connection: Connection) -> bytes:
    """The digest of ``audited_balances``."""
    return await _digest(connection, SQL["balances"])


async def draft(
    connection: Connection,
    *,
    at_ms: int,
    cut: Cut,
    start: Kept | None,
    newest_id: int | None,
    is_full: bool,
    walked_again: int | None,
) -> Draft:
    """An anchor at a cut, read in the snapshot of an audit. ``start``: the anchor that it goes on from.

    The digest is of what the audit itself has seen, not of what is in the table when the anchor is kept.
    """
    after_id = ID_MIN if start is None else start.cut.transfer_id
    counts = await connection.fetchrow(SQL["counts"], after_id, cut.transfer_id)
    assert counts is not None  # noqa: S101  # a count always has a row
    from_id = ID_MIN if is_full else after_id
    return Draft(
        begun_from=newest_id,
        at_ms=at_ms,
        begins=start is None,
        is_full=is_full,
        walked_again=walked_again,
        cut=cut,
        after_id=from_id,
        entries=counts["entries"],
        own_entries=counts["own_entries"],
        digest=await _digest(connection, SQL["balances_then"], from_id, cut.transfer_id, not is_full),
    )


async def _digest(connection: Connection, query: str, *values: int) -> bytes:
    digest = sha256()

    async def put(data: bytes) -> None:
        digest.update(data)

    await connection.copy_from_query(query, *values, output=put, timeout=_COPY_S_MAX)
    return digest.digest()


async def now_ms(connection: Connection) -> int:
    """The time by Postgres's clock."""
    now: int = await connection.fetchval(SQL["now_ms"])
    return now


async def last_transfer(connection: Connection) -> int:
    """The last entry that can be seen."""
    last: int = await connection.fetchval(SQL["last_transfer"])
    return last


async def may_keep(pool: asyncpg.Pool) -> bool:
    """Whether this user of Postgres may keep an anchor there."""
    return bool(await pool.fetchval(SQL["may_keep"]))


async def keep(pool: asyncpg.Pool, keyring: Keyring, drafted: Draft) -> bool:
    """Keep an anchor. False: another audit has kept one meanwhile. Raises UnavailableError and UndecidedError."""
    key = _Key(keyring.secrets[0])
    async with ledger_change(pool) as connection:
        await connection.execute(SQL["take_turns"])
        if await connection.fetchval(SQL["newest_id"]) != drafted.begun_from:
            return False
        moved = (drafted.after_id, drafted.cut.transfer_id, not drafted.is_full)
        await connection.execute(SQL["move_balances"], *moved)
        values: dict[str, Any] = {
            "audit_id": (drafted.begun_from or 0) + 1,
            "at_ms": drafted.at_ms,
            "begins": drafted.begins,
            "is_full": drafted.is_full,
            "walked_again": drafted.walked_again,
            "transfer_id": drafted.cut.transfer_id,
            "last_transfer_id": drafted.cut.last_transfer_id,
            "entries": drafted.entries,
            "own_entries": drafted.own_entries,
            "lanes": {str(lane): _lane(end) for lane, end in drafted.cut.lanes.items()},
            "balances_digest": drafted.digest,
            "key_id": key.key_id,
        }
        signature = key.signature(_signed(values))
        values["lanes"] = orjson.dumps(values["lanes"]).decode()
        await connection.execute(SQL["add"], *values.values(), signature)
    return True


def _lane(end: LaneEnd) -> dict[str, Any]:
    return {
        "position": end.position,
        "hash": None if end.hash is None else end.hash.hex(),
        "opened": end.opened,
        "closed": end.closed,
    }
