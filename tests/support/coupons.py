"""Coupons for tests: batches made, filled with codes, sent and claimed."""

from collections.abc import Sequence
from contextlib import suppress
from uuid import uuid4

from pydantic import SecretStr

from engine.auditing.audit import audit
from engine.coupons.batches import BatchStatement, BatchTerms
from engine.coupons.ending import CouponEnd
from engine.coupons.uploading import PartUploaded, upload_part
from engine.engine import Engine
from engine.errors import UnconfirmedError
from engine.ledger.money import now_ms
from engine.packets.terms import terms_from
from engine.records import ClaimResult, Coupon, CouponFace, CouponResult, SplitKind
from engine.risk.limits import AccountKind
from engine.settings import Settings
from tests.support.scenes import changed
from tests.support.waiting import wait_until

KEYS = f"first:{'k' * 32},second:{'s' * 32}"
FIVE_OFF = CouponFace(kind="amount_off", off_fen=500)
DAY_MS = 86_400_000


def with_keys(settings: Settings, keys: str = KEYS) -> Settings:
    """The settings with keys of coupons, and with one for the API keys of WeChat Pay's merchants."""
    return changed(settings, coupon_keys=SecretStr(keys), wechatpay_keys=SecretStr(f"w:{'w' * 32}"))


async def make_batch(
    engine: Engine,
    count: int = 10,
    *,
    owner: str = "mall",
    codes: Sequence[str] | None = None,
    is_transferable: bool = True,
    face: CouponFace = FIVE_OFF,
    valid_in_ms: tuple[int, int] = (0, 2 * DAY_MS),
) -> str:
    """A batch's number. ``codes``: those that are uploaded; without them they are derived."""
    at_ms = await now_ms(engine.pool)
    await engine.profiles.put(owner, AccountKind.MERCHANT, [], {}, changed_by="root")
    terms = BatchTerms(
        name="五元优惠券",
        face=face,
        count=count,
        codes="derived" if codes is None else "uploaded",
        is_transferable=is_transferable,
        valid_from_ms=at_ms + valid_in_ms[0],
        valid_until_ms=at_ms + valid_in_ms[1],
    )
    made, _ = await engine.coupon_batches.make(owner, terms, idempotency_key=uuid4().hex, request_hash=b"batch")
    if codes:
        await upload(engine, made.batch_id, codes)
    return made.batch_id


async def upload(engine: Engine, batch_id: str, codes: Sequence[str], part: int = 1) -> PartUploaded:
    """Upload a part of a batch's codes."""
    batch = await engine.coupon_batches.known(int(batch_id))
    return await upload_part(engine.pool, engine.coupon_batches, batch, part, codes)


async def drop(
    engine: Engine, batch_id: str, count: int, *, sender: str = "mall", ttl_s: int = 3_600, total: int | None = None
) -> str:
    """A packet of a batch's coupons; its number."""
    batch = await engine.coupon_batches.known(int(batch_id))
    terms = terms_from(
        settings=engine.settings,
        total_fen=count if total is None else total,
        count=count,
        split=SplitKind.EQUAL if total is None else SplitKind.LUCKY,
        ttl_s=ttl_s,
        asset=batch.asset,
    )
    sent = await engine.packets.send(sender, terms, idempotency_key=uuid4().hex, request_hash=b"drop")
    return sent.packet_id


async def claim(engine: Engine, packet_id: str, user_id: str) -> Coupon:
    """The coupon that a user gets. A persister must be at work."""

    async def answered() -> ClaimResult | None:
        with suppress(UnconfirmedError):  # it stands, and on a busy machine the ledger has it later
            return await engine.claims.claim(packet_id, user_id)
        return None

    result = await wait_until(answered, what="the claim being in the ledger")
    assert isinstance(result, CouponResult), result
    return result.coupon


async def given(engine: Engine, *users: str, **batch: object) -> list[Coupon]:
    """A coupon for each of these users, all of one batch. A persister must be at work."""
    batch_id = await make_batch(engine, len(users), **batch)  # type: ignore[arg-type]
    packet_id = await drop(engine, batch_id, len(users))
    return [await claim(engine, packet_id, user_id) for user_id in users]


async def redeem(
    engine: Engine, coupon_id: str, *, owner: str = "mall", key: str | None = None
) -> tuple[CouponEnd, bool]:
    """Redeem a coupon."""
    return await engine.coupon_acts.redeem(coupon_id, owner, idempotency_key=key or uuid4().hex, request_hash=b"redeem")


async def redeem_code(
    engine: Engine, batch_id: str, code: str, *, owner: str = "mall", key: str | None = None
) -> tuple[CouponEnd, bool]:
    """Redeem a coupon by its code."""
    return await engine.coupon_acts.redeem_code(
        batch_id, code, owner, idempotency_key=key or uuid4().hex, request_hash=b"code"
    )


async def void(engine: Engine, coupon_id: str, *, owner: str = "mall") -> tuple[CouponEnd, bool]:
    """Declare a coupon void."""
    return await engine.coupon_acts.void(coupon_id, owner, idempotency_key=uuid4().hex, request_hash=b"void")


async def pass_on(engine: Engine, coupon_id: str, holder: str, to: str) -> None:
    """Pass a coupon on."""
    await engine.coupon_acts.pass_on(coupon_id, holder, to, idempotency_key=uuid4().hex, request_hash=b"pass")


async def statement(engine: Engine, batch_id: str) -> BatchStatement:
    """What has become of a batch's coupons; they add up."""
    found = await engine.coupon_batches.statement(await engine.coupon_batches.known(int(batch_id)))
    parts = (found.not_uploaded, found.unsent, found.in_packets, found.held, found.redeemed, found.void, found.expired)
    assert sum(parts) + found.written_off == found.count, found
    return found


async def problems(engine: Engine) -> list[str]:
    """What an audit finds."""
    findings = await audit(engine.pool, engine.store, engine.stream)
    return [problem for finding in findings for problem in finding.problems]


async def let_validity_run_out(engine: Engine, batch_id: str) -> None:
    """Make a batch's time be over now, for Postgres as for this engine, which reads it once."""
    ended = "UPDATE coupon_batches SET valid_from_ms = 0, valid_until_ms = 1 WHERE batch_id = $1"
    await engine.pool.execute(ended, int(batch_id))
    engine.coupon_batches._known.clear()
