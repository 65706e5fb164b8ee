"""Batches of coupons: making one, its owner's list, and the statement of what has become of its coupons."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import asyncpg

from engine.coupons.codes import COUNT_MAX
from engine.coupons.keys import BatchKeys, CouponKeys
from engine.coupons.numbers import PREFIX
from engine.errors import (
    FieldProblem,
    InvalidFieldsError,
    NotMerchantError,
    NotSenderError,
    UnavailableError,
    UnknownCouponBatchError,
)
from engine.ledger import idempotency
from engine.ledger.database import Connection, ledger_errors
from engine.ledger.money import lock_wallet, move, now_ms
from engine.paging import NEWEST, parse
from engine.queries import load
from engine.records import FEN_MAX, CouponFace
from engine.text import TEXT_RULE, is_readable

SQL, ASSETS = load("coupons"), load("assets")
NAME_LENGTH_MAX, TEXT_LENGTH_MAX = 40, 200
AHEAD_MS_MAX = 10 * 366 * 86_400_000
"""How far in the future a batch's time may be."""
UPLOADED_MAX = 5_000_000
_NUMBER_TRIES_MAX = 100
_KNOWN_MAX = 10_000
_NO_BATCH = "You have no batch of coupons with this number."
_FACES = {
    "amount_off": ("off_fen",),
    "percent_off": ("percent",),
    "threshold": ("off_fen", "from_fen"),
    "text": ("text",),
}
"""What each kind of face must say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTerms:
    """What an owner asks for. ``codes``: computed by us, or uploaded by the owner."""

    name: str
    face: CouponFace
    count: int
    codes: Literal["derived", "uploaded"]
    is_transferable: bool
    valid_from_ms: int
    valid_until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What never changes of a batch. ``asset``: what the ledger counts its coupons in. ``issuer``: its account."""

    batch_id: int
    asset: str
    issuer: int
    owner: str
    key_id: str
    terms: BatchTerms
    created_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchView:
    """A batch as its owner sees it. ``uploaded``: how many codes there are, 0 if they are derived."""

    batch_id: str
    asset: str
    owner: str
    name: str
    face: CouponFace
    count: int
    codes: Literal["derived", "uploaded"]
    uploaded: int
    is_transferable: bool
    valid_from_ms: int
    valid_until_ms: int
    created_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchesPage:
    """An owner's batches, newest first."""

    batches: list[BatchView]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchMade:
    """The answer to making a batch."""

    batch_id: str
    asset: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStatement:
    """What has become of a batch's coupons. All but ``count`` sum to it.

    ``not_uploaded``: without a code. ``unsent``: the owner can send them. ``in_packets``: nobody has claimed them yet.
    ``held`` also has those whose time is over until the sweeper takes them in. ``written_off``: of claims that the
    ledger could not take.
    """

    batch_id: str
    count: int
    not_uploaded: int
    unsent: int
    in_packets: int
    held: int
    redeemed: int
    void: int
    expired: int
    written_off: int


class Batches:
    """Use cases of batches. Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool, keys: CouponKeys) -> None:
        self._pool, self._keys = pool, keys
        self._known: OrderedDict[int, Batch] = OrderedDict()

    async def make(
        self, owner: str, terms: BatchTerms, *, idempotency_key: str, request_hash: bytes
    ) -> tuple[BatchMade, bool]:
        """Make a batch and issue its coupons to its owner. Coupons with uploaded codes can be sent once they are there.

        Returns the batch, and whether it was answered before under this key.
        Raises InvalidFieldsError naming every bad field, NotMerchantError, NoCouponKeyError, and as
        ``idempotency.once`` does.
        """

        async def check() -> str:
            with ledger_errors(is_undone=True):
                at_ms, kind = await now_ms(self._pool), await self._pool.fetchval(SQL["owner_kind"], owner)
            if problems := problems_of(terms, at_ms):
                raise InvalidFieldsError(problems)
            if kind != "merchant":
                raise NotMerchantError("Only a merchant's account can make coupons: an admin sets its profile.")
            return self._keys.first

        async def work(connection: Connection, key_id: str) -> dict[str, Any]:
            return await _make(connection, owner, terms, key_id)

        request = idempotency.Request(
            principal=owner, operation="coupon_batch", key=idempotency_key, request_hash=request_hash
        )
        answered = await idempotency.once(self._pool, request, check=check, work=work)
        return BatchMade(**answered.answer), answered.replayed

    async def known(self, batch_id: int) -> Batch:
        """A batch. Raises UnknownCouponBatchError."""
        found = await self.known_of([batch_id])
        if batch_id not in found:
            raise UnknownCouponBatchError(_NO_BATCH)
        return found[batch_id]

    async def known_of(self, batch_ids: Iterable[int]) -> dict[int, Batch]:
        """Those of some batches that there are, by number. Memory is bounded: the oldest are read again."""
        wanted = set(batch_ids)
        found = {batch_id: self._known[batch_id] for batch_id in wanted if batch_id in self._known}
        if unknown := wanted - found.keys():
            with ledger_errors():
                rows = await self._pool.fetch(SQL["batches"], list(unknown))
            found |= {row["batch_id"]: _batch(row) for row in rows}
            for batch_id in unknown & found.keys():
                self._known[batch_id] = found[batch_id]
            while len(self._known) > _KNOWN_MAX:
                self._known.popitem(last=False)
        return found

    async def of(self, batch_id: str, owner: str | None) -> Batch:
        """A batch for its owner (None: for an admin). Raises UnknownCouponBatchError for anybody else."""
        batch = await self.known(int(batch_id))
        if owner is not None and batch.owner != owner:
            raise UnknownCouponBatchError(_NO_BATCH)
        return batch

    async def owned(self, batch_id: int, owner: str) -> Batch:
        """A batch that its owner acts on. Raises UnknownCouponBatchError, NotSenderError."""
        batch = await self.known(batch_id)
        if batch.owner != owner:
            raise NotSenderError("Only the owner of the coupons' batch can do this.")
        return batch

    def keys_of(self, batch: Batch) -> BatchKeys:
        """A batch's keys. Raises NoCouponKeyError."""
        return self._keys.of_batch(batch.key_id, batch.batch_id)

    async def view(self, batch: Batch) -> BatchView:
        """A batch, with how many codes were uploaded."""
        with ledger_errors():
            return _view(batch, await self._pool.fetchval(SQL["uploaded"], batch.batch_id))

    async def of_owner(self, owner: str, *, after: str | None, limit: int) -> BatchesPage:
        """Some of an owner's batches, newest first. Raises InvalidFieldsError for an invalid cursor."""
        (below,) = parse(after, parts=1, start=(NEWEST,))
        with ledger_errors():
            rows = await self._pool.fetch(SQL["of_owner"], owner, below, limit + 1)
        views = await self._views(rows[:limit])
        return BatchesPage(batches=views, next=views[-1].batch_id if len(rows) > limit else None)

    async def newest(self, limit: int) -> list[BatchView]:
        """The newest batches of all owners, for an operator."""
        with ledger_errors():
            rows = await self._pool.fetch(SQL["newest"], limit)
        return await self._views(rows)

    async def _views(self, rows: Sequence[asyncpg.Record]) -> list[BatchView]:
        found = await self.known_of(row["batch_id"] for row in rows)
        return [_view(found[row["batch_id"]], row["uploaded"]) for row in rows]

    async def statement(self, batch: Batch) -> BatchStatement:
        """What has become of a batch's coupons, at one moment."""
        with ledger_errors():
            (row,) = await self._pool.fetch(SQL["statement"], batch.batch_id)
        return BatchStatement(batch_id=str(batch.batch_id), **row)


def problems_of(terms: BatchTerms, at_ms: int) -> list[FieldProblem]:
    """What is wrong with the terms, field by field."""
    problems = []
    if not 1 <= len(terms.name) <= NAME_LENGTH_MAX:
        problems.append(FieldProblem("name", f"must have 1 to {NAME_LENGTH_MAX} characters"))
    elif not is_readable(terms.name):
        problems.append(FieldProblem("name", TEXT_RULE))
    count_max = UPLOADED_MAX if terms.codes == "uploaded" else COUNT_MAX
    if not 1 <= terms.count <= count_max:
        problems.append(FieldProblem("count", f"must be from 1 to {count_max}"))
    if terms.valid_from_ms < 0:
        problems.append(FieldProblem("valid_from_ms", "must not be below 0"))
    if terms.valid_until_ms <= max(terms.valid_from_ms, at_ms):
        problems.append(FieldProblem("valid_until_ms", "must be after valid_from_ms, and in the future"))
    elif terms.valid_until_ms > at_ms + AHEAD_MS_MAX:
        problems.append(FieldProblem("valid_until_ms", "must be within ten years"))
    return problems + _face_problems(terms.face)


def _face_problems(face: CouponFace) -> list[FieldProblem]:
    wanted = _FACES[face.kind]
    problems = []
    for field in ("off_fen", "from_fen", "percent", "text"):
        if (getattr(face, field) is not None) != (field in wanted):
            rule = f"is required for {face.kind}" if field in wanted else f"must not be given for {face.kind}"
            problems.append(FieldProblem(f"face.{field}", rule))
    if problems:
        return problems
    for field, value in (("off_fen", face.off_fen), ("from_fen", face.from_fen)):
        if value is not None and not 1 <= value <= FEN_MAX:
            problems.append(FieldProblem(f"face.{field}", f"must be from 1 to {FEN_MAX}"))
    if not problems and face.from_fen is not None and face.off_fen is not None and face.from_fen < face.off_fen:
        problems.append(FieldProblem("face.from_fen", f"must be at least off_fen, {face.off_fen}"))
    if face.percent is not None and not 1 <= face.percent <= 100:
        problems.append(FieldProblem("face.percent", "must be from 1 to 100"))
    if face.text is not None and not (1 <= len(face.text) <= TEXT_LENGTH_MAX and is_readable(face.text)):
        problems.append(FieldProblem("face.text", f"must have 1 to {TEXT_LENGTH_MAX} characters that people can read"))
    return problems


async def keys_in_use(connection: Connection) -> list[str]:
    """The key ids that batches name. Raises asyncpg's errors."""
    return [row["key_id"] for row in await connection.fetch(SQL["keys_in_use"])]


async def _make(connection: Connection, owner: str, terms: BatchTerms, key_id: str) -> dict[str, Any]:
    """Make the asset, the batch and its owner's holding, and issue the coupons."""
    batch_id, asset = await _new_asset(connection, terms.name)
    at_ms, face = await now_ms(connection), terms.face
    await connection.execute(
        SQL["add_batch"],
        *(batch_id, asset, owner, terms.name, face.kind, face.off_fen, face.from_fen, face.percent, face.text),
        *(terms.count, terms.codes, key_id, terms.is_transferable, terms.valid_from_ms, terms.valid_until_ms, at_ms),
    )
    if terms.codes == "derived":
        await connection.execute(SQL["add_free"], batch_id, 1, terms.count)
    await lock_wallet(connection, owner)  # everybody who holds something has a wallet
    await connection.execute(ASSETS["create_holding"], owner, asset)
    holding = await connection.fetchval(ASSETS["lock_holding"], owner, asset)
    (row,) = await connection.fetch(ASSETS["asset"], asset)
    await move(connection, "issue", payer=row["issuer"], payee=holding, amount_fen=terms.count, at_ms=at_ms)
    return {"batch_id": str(batch_id), "asset": asset, "count": terms.count}


async def _new_asset(connection: Connection, name: str) -> tuple[int, str]:
    """A number for a batch, and its asset. An asset from before coupons may have the code: then the next number."""
    for _ in range(_NUMBER_TRIES_MAX):
        batch_id: int = await connection.fetchval(SQL["new_batch"])
        asset = f"{PREFIX}{batch_id}"
        if await connection.execute(ASSETS["add"], asset, 0, name) == "INSERT 0 1":
            return batch_id, asset
    raise UnavailableError("No free code for the batch's asset was found.", is_undone=True)


def _batch(row: asyncpg.Record) -> Batch:
    return Batch(
        batch_id=row["batch_id"],
        asset=row["asset"],
        issuer=row["issuer"],
        owner=row["owner"],
        key_id=row["key_id"],
        created_at_ms=row["created_at_ms"],
        terms=BatchTerms(
            name=row["name"],
            face=CouponFace(
                kind=row["face"],
                off_fen=row["off_fen"],
                from_fen=row["from_fen"],
                percent=row["percent"],
                text=row["words"],
            ),
            count=row["count"],
            codes=row["codes"],
            is_transferable=row["is_transferable"],
            valid_from_ms=row["valid_from_ms"],
            valid_until_ms=row["valid_until_ms"],
        ),
    )


def _view(batch: Batch, uploaded: int) -> BatchView:
    terms = batch.terms
    return BatchView(
        batch_id=str(batch.batch_id),
        asset=batch.asset,
        owner=batch.owner,
        name=terms.name,
        face=terms.face,
        count=terms.count,
        codes=terms.codes,
        uploaded=uploaded,
        is_transferable=terms.is_transferable,
        valid_from_ms=terms.valid_from_ms,
        valid_until_ms=terms.valid_until_ms,
        created_at_ms=batch.created_at_ms,
    )
