"""The drop: a file of codes is uploaded, sent in packets, claimed in batches, and redeemed by several at once.

What was shown to whom is kept, so that at the end each code was shown to one user, and each user's repeat showed the
same. A persister must be at work. Every claim that is told to be repeated is repeated.
"""

import asyncio
import re
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from random import Random
from uuid import uuid4

from engine.auditing.audit import audit
from engine.coupons import files
from engine.coupons.batches import Batch, BatchStatement, BatchTerms
from engine.coupons.codes import ALPHABET
from engine.coupons.ending import CouponEnd
from engine.engine import Engine
from engine.errors import CouponEndedError, InsufficientFundsError, UnavailableError
from engine.lanes.clients import command
from engine.ledger.money import now_ms
from engine.packets.terms import terms_from
from engine.records import CouponFace, CouponResult, CouponState, SplitKind
from engine.risk.limits import AccountKind

OWNER = "mall"
_CODE = re.compile(rb"HB[A-HJ-NP-Z2-9]{12}")
_BATCH_CLAIMS = 1_000
_HOUR_MS = 3_600_000
_LIST_PAGE = 5_000
_REPEATED = 20
"""One claim of so many is repeated by its user."""


class WrongError(Exception):
    """A code was shown twice, or something else that must not happen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """``codes``: as many as users. ``packets``: in how many packets. ``redeemed``: how many are fought over."""

    codes: int
    packets: int
    redeemed: int
    batches_at_once: int = 8
    redemptions_at_once: int = 16


@dataclass(slots=True, kw_only=True)
class Told:
    """What happened: sentences for a report, and who was shown which code."""

    lines: list[str] = field(default_factory=list)
    user_of: dict[str, str] = field(default_factory=dict)
    repeats: int = 0
    unconfirmed: int = 0


async def play(engine: Engine, sizes: Sizes, folder: Path, tell: Callable[[str], None]) -> Told:
    """Do all of it. Raises WrongError if anything is not as it must be."""
    told, codes = Told(), new_codes(sizes.codes)

    def note(line: str) -> None:
        told.lines.append(line)
        tell(line)

    batch = await _uploaded(engine, codes, folder, note)
    packets = await _sent(engine, batch, sizes, note)
    await _claimed(engine, packets, sizes, told, note)
    if sorted(told.user_of) != sorted(codes):
        raise WrongError(f"{len(told.user_of)} of {len(codes)} codes were shown")
    note(f"{len(codes):,} codes were shown, each to one user; {told.repeats:,} repeats showed the same")
    found = await _found_in_redis(engine)
    if found:
        raise WrongError(f"Redis shows {found} codes")
    await _redeemed(engine, batch, sizes, told, note)
    await _audited(engine, batch, sizes, note)
    return told


def new_codes(count: int) -> list[str]:
    """Codes of a form that is found wherever it stands."""
    made: set[str] = set()
    while len(made) < count:
        made.add("HB" + "".join([ALPHABET[byte & 31] for byte in secrets.token_bytes(12)]))
    return list(made)


async def _uploaded(engine: Engine, codes: Sequence[str], folder: Path, note: Callable[[str], None]) -> Batch:
    await engine.profiles.put(OWNER, AccountKind.MERCHANT, [], {}, changed_by="root")
    at_ms = await now_ms(engine.pool)
    terms = BatchTerms(
        name="五元优惠券",
        face=CouponFace(kind="amount_off", off_fen=500),
        count=len(codes),
        codes="uploaded",
        is_transferable=False,
        valid_from_ms=at_ms,
        valid_until_ms=at_ms + 24 * _HOUR_MS,
    )
    made, _ = await engine.coupon_batches.make(OWNER, terms, idempotency_key=uuid4().hex, request_hash=b"batch")
    path = folder / "codes.csv"
    path.write_text("".join(f"{code}\n" for code in codes), encoding="utf-8")
    batch, started_s = await engine.coupon_batches.known(int(made.batch_id)), time.monotonic()
    await files.upload_file(engine.pool, engine.coupon_batches, batch, path, lambda _: None)
    seconds = time.monotonic() - started_s
    note(f"{len(codes):,} codes were uploaded in {seconds:.1f} s, {len(codes) / seconds:,.0f} in a second")
    return batch


async def _sent(engine: Engine, batch: Batch, sizes: Sizes, note: Callable[[str], None]) -> list[tuple[str, int]]:
    """The packets, and how many coupons each has."""
    started_s, packets = time.monotonic(), []
    for number in range(sizes.packets):
        count = sizes.codes // sizes.packets + (number < sizes.codes % sizes.packets)
        terms = terms_from(
            settings=engine.settings,
            total_fen=count,
            count=count,
            split=SplitKind.EQUAL,
            asset=batch.asset,
            ttl_s=36_000,
        )
        sent = await engine.packets.send(OWNER, terms, idempotency_key=uuid4().hex, request_hash=b"drop")
        packets.append((sent.packet_id, count))
    while set(await engine.store.states([packet_id for packet_id, _ in packets])) != {"open"}:  # noqa: ASYNC110
        await asyncio.sleep(0.1)  # the publisher is another process
    try:
        await engine.packets.send(OWNER, terms, idempotency_key=uuid4().hex, request_hash=b"drop")
    except InsufficientFundsError:
        seconds = time.monotonic() - started_s
        note(f"{len(packets)} packets were paid and opened in {seconds:.1f} s, and no coupon is left")
        return packets
    raise WrongError("more coupons were sent than there are")


async def _claimed(
    engine: Engine, packets: Sequence[tuple[str, int]], sizes: Sizes, told: Told, note: Callable[[str], None]
) -> None:
    chance, started_s = Random(1), time.monotonic()
    asked = [
        (packet_id, f"u{place}-{number}") for place, (packet_id, count) in enumerate(packets) for number in range(count)
    ]
    chance.shuffle(asked)
    waiting = iter(asked)

    async def hand(seed: int) -> None:
        own = Random(seed)
        while claims := list(islice(waiting, _BATCH_CLAIMS)):
            await _claim_all(engine, claims, told)
            await _claim_all(engine, [claim for claim in claims if own.randrange(_REPEATED) == 0], told)

    await asyncio.gather(*(hand(seed) for seed in range(sizes.batches_at_once)))
    seconds = time.monotonic() - started_s
    note(
        f"{len(asked):,} users claimed in {seconds:.1f} s, {len(asked) / seconds:,.0f} in a second, each "
        f"answered when the ledger had the claim ({told.unconfirmed:,} answers said to repeat)"
    )


async def _claim_all(engine: Engine, claims: list[tuple[str, str]], told: Told) -> None:
    """Claim until each claim has its coupon, and keep which it was."""
    while claims:
        again = []
        for claim, result in zip(claims, await engine.claims.claim_many(claims), strict=True):
            if isinstance(result, UnavailableError):
                again.append(claim)
            elif not isinstance(result, CouponResult) or result.coupon.code is None:
                raise WrongError(f"{claim} was answered {result}")
            else:
                holder = f"{claim[0]} {claim[1]}"
                known = told.user_of.setdefault(result.coupon.code, holder)
                if known != holder:
                    raise WrongError(f"a code was shown to {known} and to {holder}")
                told.repeats += known is not holder
        told.unconfirmed += len(again)
        claims = again
        if again:
            await asyncio.sleep(0.2)


async def _redeemed(engine: Engine, batch: Batch, sizes: Sizes, told: Told, note: Callable[[str], None]) -> None:
    """For each of some codes, three try at once: two redeem it by the code; one by its number, or declares it void."""
    keys, batch_id = engine.coupon_batches.keys_of(batch), str(batch.batch_id)
    chosen = list(islice(told.user_of, sizes.redeemed))
    query = "SELECT hash, number FROM coupon_codes WHERE batch_id = $1 AND hash = ANY ($2::bytea[])"
    rows = await engine.pool.fetch(query, batch.batch_id, [keys.hash(code.encode()) for code in chosen])
    number_of = {row["hash"]: row["number"] for row in rows}
    waiting, started_s = enumerate(chosen), time.monotonic()
    ended: Counter[CouponState] = Counter()

    async def attempt(act: Callable[..., Awaitable[tuple[CouponEnd, bool]]], *what: str) -> list[CouponState]:
        try:
            end, _ = await act(*what, OWNER, idempotency_key=uuid4().hex, request_hash=b"end")
        except CouponEndedError:
            return []
        return [end.state]

    async def hand(seed: int) -> None:
        own, acts = Random(seed), engine.coupon_acts
        for place, code in waiting:
            coupon_id = f"{batch_id}-{number_of[keys.hash(code.encode())]}"
            tries = [
                attempt(acts.redeem_code, batch_id, code),
                attempt(acts.redeem_code, batch_id, code),
                attempt(acts.redeem if place % 4 else acts.void, coupon_id),
            ]
            own.shuffle(tries)
            done = [state for states in await asyncio.gather(*tries) for state in states]
            if len(done) != 1:
                raise WrongError(f"{len(done)} acts on one coupon were done")
            ended.update(done)

    await asyncio.gather(*(hand(seed) for seed in range(sizes.redemptions_at_once)))
    seconds = time.monotonic() - started_s
    redeemed, void = ended[CouponState.REDEEMED], ended[CouponState.VOID]
    note(
        f"{sizes.redeemed:,} coupons were fought over by three acts at once: {redeemed:,} were redeemed, {void:,} are "
        f"void, one act each, in {seconds:.1f} s"
    )
    statement = await engine.coupon_batches.statement(batch)
    if (statement.redeemed, statement.void) != (redeemed, void):
        raise WrongError(f"the statement says {statement}")


async def _found_in_redis(engine: Engine) -> int:
    """How many codes whoever steals Redis finds in it: in every key, every value, and the snapshot of each key."""
    found: set[bytes] = set()
    async for key in engine.redis.scan_iter(count=1_000):
        found.update(_CODE.findall(key), _CODE.findall(await command(engine.redis, "DUMP", key)))
        kind = (await command(engine.redis, "TYPE", key)).decode()
        async for piece in _values(engine, key, kind):
            found.update(_CODE.findall(piece))
    return len(found)


async def _values(engine: Engine, key: bytes, kind: str) -> AsyncIterator[bytes]:
    """A key's values as text, a part at a time."""
    if kind == "list":
        for start in range(0, await command(engine.redis, "LLEN", key), _LIST_PAGE):
            yield repr(await command(engine.redis, "LRANGE", key, start, start + _LIST_PAGE - 1)).encode()
        return
    if kind in ("hash", "set", "zset"):
        cursor: bytes | int = 0
        while True:
            cursor, values = await command(engine.redis, f"{kind[0].upper()}SCAN", key, cursor, "COUNT", _LIST_PAGE)
            yield repr(values).encode()
            if int(cursor) == 0:
                return
    whole = ("XRANGE", key, "-", "+") if kind == "stream" else ("GET", key)
    yield repr(await command(engine.redis, *whole)).encode()


async def _audited(engine: Engine, batch: Batch, sizes: Sizes, note: Callable[[str], None]) -> None:
    started_s = time.monotonic()
    statement: BatchStatement = await engine.coupon_batches.statement(batch)
    if statement.held + statement.redeemed + statement.void != sizes.codes:
        raise WrongError(f"the statement says {statement}")
    problems = [
        problem for finding in await audit(engine.pool, engine.store, engine.stream) for problem in finding.problems
    ]
    if problems:
        raise WrongError(f"the audit says: {problems[0]}")
    note(f"the audit found nothing in {time.monotonic() - started_s:.1f} s")
