"""What people do with packets: send, preview, look, claim. Redis decides claims; the ledger remembers everything."""

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from itertools import repeat
from typing import Any

import asyncpg

from engine import idempotency
from engine.acks import Acks
from engine.batcher import Batcher, Deliver
from engine.clients import Connection, ledger_errors
from engine.errors import (
    BusyError,
    FieldProblem,
    HongbaoError,
    InsufficientFundsError,
    InvalidFieldsError,
    NotInvitedError,
    OpeningError,
    RecoveringError,
    UnavailableError,
    UnknownPacketError,
)
from engine.finished import Finished
from engine.lanes import lane_of, new_packet_number
from engine.publisher import Funded, funded_from, open_packet
from engine.queries import load
from engine.records import ClaimResult, Outcome, PacketState, Sent, Terms
from engine.settings import Settings
from engine.split import commitment, new_seed, split
from engine.store import Opened, Store

SQL = load("packets")
_NUMBER_TRIES_MAX = 5
_UNKNOWN = UnknownPacketError("No packet has this number.")
_OUTCOMES = {
    PacketState.EXHAUSTED: Outcome.EMPTY,
    PacketState.EXPIRED: Outcome.EXPIRED,
    PacketState.RETRACTED: Outcome.RETRACTED,
}
"""What those are told who come after a packet has ended."""
_GIVEN = frozenset({Outcome.CLAIMED, Outcome.ALREADY})
_ENDED = frozenset(_OUTCOMES.values())
_REFUSALS: dict[Outcome, Callable[[], HongbaoError]] = {
    Outcome.BUSY: lambda: BusyError("The ledger is behind; claims wait until it has caught up."),
    Outcome.NOT_INVITED: lambda: NotInvitedError("This packet is for others."),
}


class Packets:
    """Use cases over packets. Every method raises UnavailableError when Redis or Postgres does not answer.

    ``full_lanes``: those whose batcher refuses claims at this moment.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        store: Store,
        batchers: Mapping[int, Batcher],
        settings: Settings,
        full_lanes: Set[int] = frozenset(),
        *,
        acks: Acks | None = None,
    ) -> None:
        self._pool, self._store, self._batchers, self._settings = pool, store, batchers, settings
        self.full_lanes = full_lanes
        self._acks = acks
        self.finished = Finished(store, acks)

    async def send(self, sender: str, terms: Terms, *, idempotency_key: str, request_hash: bytes) -> Sent:
        """Pay for a packet and open it. Paid and not opened (Redis failed in between): the publisher opens it.

        Raises InsufficientFundsError, IdempotencyInFlightError, IdempotencyKeyReusedError, and InvalidFieldsError for
        an ack that Redis is not set for.
        """
        if self._acks is not None:
            await self._acks.admit(terms.ack)
        read_at_ms, epochs = await self._store.now_ms(), dict(self._store.epochs)
        request = idempotency.Request(
            principal=sender, operation="send", key=idempotency_key, request_hash=request_hash
        )
        with ledger_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                answer = await idempotency.begin(connection, request)
                replayed = answer is not None
                if answer is None:
                    answer = await self._pay(connection, sender, terms, read_at_ms)
                    await idempotency.keep(connection, request, answer)
        state = await self._open(answer["packet_id"], read_at_ms, epochs)
        return Sent(**answer, state=state, replayed=replayed)

    async def _pay(self, connection: Connection, sender: str, terms: Terms, created_at_ms: int) -> dict[str, Any]:
        seed, expires_at_ms = new_seed(), created_at_ms + terms.ttl_s * 1000
        split_terms = (terms.split, terms.total_fen, terms.count, terms.min_fen, terms.max_fen)
        for _ in range(_NUMBER_TRIES_MAX):
            # Which lane is no secret; which number within it is, and that comes from `secrets`.
            packet_id = new_packet_number(random.randrange(self._settings.lanes))  # noqa: S311
            committed = commitment(packet_id, *split_terms, seed)
            values = (
                *(int(packet_id), sender, terms.total_fen, terms.count, terms.split.value, terms.min_fen),
                *(terms.max_fen, terms.greeting, list(terms.recipients), seed, committed),
                *(created_at_ms, expires_at_ms, terms.ack),
            )
            try:
                async with connection.transaction():
                    paid = await connection.fetchval(SQL["send"], *values)
            except asyncpg.UniqueViolationError:
                continue  # somebody has this number
            if paid is None:
                raise InsufficientFundsError("The wallet does not hold the packet's total.")
            return {
                "packet_id": packet_id,
                "total_fen": terms.total_fen,
                "count": terms.count,
                "expires_at_ms": expires_at_ms,
                "commitment": committed.hex(),
            }
        raise UnavailableError("No free packet number was found.")

    async def _open(self, packet_id: str, read_at_ms: int, epochs: Mapping[int, str]) -> PacketState:
        """Open a packet unless it is too large for a request; tells how far it is.

        ``read_at_ms``, ``epochs``: Redis's clock, and the lanes' epochs, before the ledger is read.
        """
        try:
            with ledger_errors():
                row = await self._pool.fetchrow(SQL["packet"], int(packet_id))
            if row is None or row["state"] != PacketState.FUNDED:
                return PacketState.OPEN
            funded: Funded = funded_from(row)
            if funded.count > self._settings.open_inline_count_max:
                (state,) = await self._store.states([packet_id])
                return PacketState.FUNDED if state in (None, "loading") else PacketState.OPEN
            per_call = self._settings.shares_per_open_call_max
            reply = await open_packet(
                self._store,
                funded,
                shares_per_call=per_call,
                read_at_ms=read_at_ms,
                epoch=epochs.get(lane_of(packet_id)),
            )
        except UnavailableError:
            return PacketState.FUNDED
        return PacketState.FUNDED if reply is Opened.LATE else PacketState.OPEN

    async def preview(self, terms: Terms) -> list[int]:
        """What a split by these terms may look like. Not the split a sending would get.

        Raises InvalidFieldsError for more shares than an answer should carry.
        """
        if terms.count > self._settings.preview_count_max:
            most = f"must be at most {self._settings.preview_count_max} for a preview"
            raise InvalidFieldsError([FieldProblem("count", most)])
        seed = new_seed()
        parts = (terms.split, terms.total_fen, terms.count, terms.min_fen, terms.max_fen, seed)
        amounts: list[int] = (await asyncio.to_thread(split, *parts)).tolist()
        return amounts

    async def claim(self, packet_id: str, user_id: str) -> ClaimResult:
        """Claim one share; the outcome is CLAIMED, ALREADY, EMPTY, EXPIRED or RETRACTED.

        Raises UnknownPacketError, NotInvitedError, UnconfirmedError when the claim stands and is not yet as safe as it
        was asked to be, and UnavailableError or another of its kinds when nothing was decided.
        """
        result = self.finished.answer(packet_id, user_id)
        if result is None:
            result = await self._batcher_of(packet_id).claim(packet_id, user_id)
            if not self.is_final(packet_id, result):
                result = await self.decided(packet_id, user_id, result)
        return result

    async def claim_many(self, claims: Sequence[tuple[str, str]]) -> list[ClaimResult | HongbaoError]:
        """Claim for many (packet, user), each answered as ``claim`` would answer or raise, in the same order.

        One script call a lane, so at most 1,000 claims.
        """
        users_of: dict[str, list[str]] = {}
        for packet_id, user_id in claims:
            users = users_of.get(packet_id)
            if users is None:
                users_of[packet_id] = [user_id]
            else:
                users.append(user_id)
        lanes: dict[int, dict[str, list[str]]] = {}
        answers_of: dict[str, Iterator[ClaimResult | HongbaoError]] = {}
        for packet_id, users in users_of.items():
            known = self.finished.answers(packet_id, users)
            if known is None:
                lanes.setdefault(lane_of(packet_id), {})[packet_id] = users
            else:
                answers_of[packet_id] = iter(known)
        answered = await asyncio.gather(*(self._claim_lane(lane, asked) for lane, asked in lanes.items()))
        for asked, answers in zip(lanes.values(), answered, strict=True):
            first = 0
            for packet_id, users in asked.items():
                answers_of[packet_id] = iter(answers[first : first + len(users)])
                first += len(users)
        return [next(answers_of[packet_id]) for packet_id, _ in claims]

    async def _claim_lane(self, lane: int, asked: Mapping[str, Sequence[str]]) -> Sequence[ClaimResult | HongbaoError]:
        """What ``claim_many`` gives for the claims of one lane (packet -> users), in the order of iteration."""
        size = sum(map(len, asked.values()))
        batcher = self._batchers.get(lane)
        if batcher is None:
            return [_UNKNOWN] * size
        try:
            answers = [*await batcher.claim_all(asked)]
        except HongbaoError as error:
            return [error] * size
        lost = [
            (place, answer)
            for place, answer in enumerate(answers)
            if isinstance(answer, ClaimResult) and answer.outcome not in _GIVEN
        ]
        if not lost:
            return answers
        claims = [(packet_id, user_id) for packet_id, users in asked.items() for user_id in users]
        undecided = [(place, result) for place, result in lost if not self.is_final(claims[place][0], result)]
        decided = await self._decided([claims[place] for place, _ in undecided], [result for _, result in undecided])
        for (place, _), answer in zip(undecided, decided, strict=True):
            answers[place] = answer
        return answers

    def ask(self, packet_id: str, user_id: str, deliver: Deliver) -> None:
        """The first half of ``claim``: what the script answers, handed to ``deliver`` once it is known.

        What is not ``is_final`` goes through ``decided``. Raises UnknownPacketError, OverloadedError.
        """
        self._batcher_of(packet_id).claim_for(packet_id, user_id, deliver)

    def _batcher_of(self, packet_id: str) -> Batcher:
        batcher = self._batchers.get(lane_of(packet_id))
        if batcher is None:
            raise UnknownPacketError("No packet has this number.")
        return batcher

    def is_final(self, packet_id: str, result: ClaimResult) -> bool:
        """Whether the script's answer is all there is to say."""
        outcome = result.outcome
        if outcome in _ENDED:
            self.finished.learn(packet_id)
            return True
        return outcome in _GIVEN

    async def decided(self, packet_id: str, user_id: str, result: ClaimResult) -> ClaimResult:
        """The second half of ``claim``: what it means that nothing was given and the packet has not ended."""
        (answer,) = await self._decided([(packet_id, user_id)], [result])
        if isinstance(answer, HongbaoError):
            raise answer
        return answer

    async def _decided(
        self, claims: Sequence[tuple[str, str]], results: Sequence[ClaimResult]
    ) -> list[ClaimResult | HongbaoError]:
        refused = iter([_REFUSALS[result.outcome]() for result in results if result.outcome in _REFUSALS])
        missing = [claim for claim, result in zip(claims, results, strict=True) if result.outcome is Outcome.MISSING]
        remembered: Iterator[ClaimResult | HongbaoError] = iter(())
        try:
            with ledger_errors():
                packet_ids, users = [int(packet_id) for packet_id, _ in missing], [user_id for _, user_id in missing]
                rows = await self._pool.fetch(SQL["claims_of"], packet_ids, users) if missing else []
            remembered = map(_remembered, rows)
        except UnavailableError as error:
            remembered = repeat(error)
        return [next(remembered if result.outcome is Outcome.MISSING else refused) for result in results]


def _remembered(row: asyncpg.Record) -> ClaimResult | HongbaoError:
    """What the ledger knows of a claim on a packet that Redis does not hold."""
    if row["state"] is None:
        return UnknownPacketError("No packet has this number.")
    if row["amount_fen"] is not None:
        return ClaimResult(Outcome.ALREADY, row["amount_fen"])
    state = PacketState(row["state"])
    if state is PacketState.FUNDED:
        return OpeningError("The packet is being opened.")
    if state is PacketState.OPEN:
        return RecoveringError("Redis has lost this packet; it waits to be rebuilt.")
    if state is PacketState.EXHAUSTED and row["for_others"]:  # as the script would have said
        return NotInvitedError("This packet is for others.")
    return ClaimResult(_OUTCOMES[state], 0)
