"""Whatever order things happen in, Redis answers as some plain Python would, and tells the whole story."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TypeVar

import pytest
import uvloop
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from engine.embedded.servers import EmbeddedRedis
from engine.events import Claims, Ending, Opening
from engine.ids import new_packet_number
from engine.lanes.replies import Closed, CloseReason, Noted
from engine.records import ClaimResult, LimitedResult, Outcome, PacketState
from tests.support.lane import FAR_FUTURE_MS, LANE, LONG_AGO_MS, lane_on, rows_of

USERS = ["ada", "bob", "eve", "1", "01", "a:b", "@", "-"]
NAMED_MAX = 2
PASSES_MAX = 4
"""Which examples a pass makes depends on what was imported, so one alone may miss an outcome."""
T = TypeVar("T")


@dataclass
class Packet:
    """What the model knows of one packet."""

    amounts: list[int]
    recipients: list[str]
    over: bool
    state: PacketState = PacketState.OPEN
    claims: dict[str, int] = field(default_factory=dict)  # user -> slot
    is_held: bool = False  # a transfer that has not arrived
    is_transfer: bool = False
    is_due: bool = False
    consents: dict[str, bool] = field(default_factory=dict)  # of those that have seen it and are known by name
    views: int = 0

    @property
    def rest(self) -> list[int]:
        return self.amounts[len(self.claims) :]


@dataclass
class Model:
    """The rules, one claim after the other."""

    packets: dict[str, Packet] = field(default_factory=dict)
    position: int = 0
    applied: int = 0
    frozen: set[str] = field(default_factory=set)
    frozen_version: int = 0
    limited: set[str] = field(default_factory=set)
    limited_version: int = 0

    def open(self, packet_id: str, packet: Packet) -> None:
        self.packets[packet_id] = packet
        self.position += 1

    def claim_all(self, packet_id: str, users: list[str], backlog_max: int) -> list[ClaimResult]:
        packet = self.packets.get(packet_id)
        has_shares = packet is None or bool(packet.rest)
        return [self.claim(packet_id, user, backlog_max, has_shares=has_shares) for user in users]

    def claim(  # noqa: PLR0911 - one an outcome
        self, packet_id: str, user: str, backlog_max: int, *, has_shares: bool
    ) -> ClaimResult:
        packet = self.packets.get(packet_id)
        if packet is None:
            return ClaimResult(Outcome.MISSING, 0)
        if user in packet.claims:
            return ClaimResult(Outcome.ALREADY, packet.amounts[packet.claims[user]])
        if packet.state is PacketState.RETRACTED:
            return ClaimResult(Outcome.RETRACTED, 0)
        if packet.state is PacketState.EXPIRED or (packet.state is PacketState.OPEN and packet.over):
            return ClaimResult(Outcome.EXPIRED, 0)
        if packet.recipients and user not in packet.recipients:
            return ClaimResult(Outcome.NOT_INVITED, 0)
        if packet.is_held or (has_shares and user in self.frozen | self.limited):
            return self.stopped(packet, user)
        if not packet.rest:
            return ClaimResult(Outcome.EMPTY, 0)
        if self.position - self.applied >= backlog_max:
            return ClaimResult(Outcome.BUSY, 0)
        slot = packet.claims[user] = len(packet.claims)
        self.position += 1
        if not packet.rest:
            packet.state = PacketState.EXHAUSTED
        return ClaimResult(Outcome.CLAIMED, packet.amounts[slot])

    def stopped(self, packet: Packet, user: str) -> ClaimResult:
        if packet.is_held or user in self.frozen:
            return ClaimResult(Outcome.HELD if packet.is_held else Outcome.FROZEN, 0)
        return LimitedResult(Outcome.LIMITED, 0, until_ms=FAR_FUTURE_MS)

    def close(self, packet_id: str, reason: PacketState) -> tuple[Closed, int, int]:
        packet = self.packets.get(packet_id)
        if packet is None:
            return Closed.MISSING, 0, 0
        if packet.state is not PacketState.OPEN:
            return Closed.ENDED, 0, 0
        if reason is PacketState.EXPIRED and not packet.over:
            has_arrived = packet.is_transfer and not packet.is_held
            packet.is_due = packet.is_due and not has_arrived
            return Closed.ARRIVED if has_arrived else Closed.NOT_DUE, 0, 0
        if reason is PacketState.RETRACTED and packet.claims:
            return Closed.CLAIMED, 0, 0
        if reason is PacketState.RETRACTED and packet.views > sum(packet.consents.values()):
            return Closed.VIEWED, 0, 0
        packet.state = reason
        self.position += 1
        return Closed.CLOSED, len(packet.rest), sum(packet.rest)

    def note(self, packet_id: str, user: str, *, consents: bool) -> tuple[Noted, int, int]:
        packet = self.packets.get(packet_id)
        if packet is None:
            return Noted.MISSING, 0, 0
        if packet.state is not PacketState.OPEN:
            return Noted.ENDED, 0, 0
        if packet.claims:
            return Noted.CLAIMED, 0, 0
        if consents and user not in packet.consents:
            return Noted.NOT_VIEWED, 0, 0
        if consents:
            packet.consents[user] = True
        elif user not in packet.consents and packet.views <= NAMED_MAX:
            packet.views += 1
            if packet.views <= NAMED_MAX:
                packet.consents[user] = False
        return Noted.NOTED, packet.views, sum(packet.consents.values())


class Claiming(RuleBasedStateMachine):
    """Opens, claims, closes and lets time run out, in Redis and in the model, and compares every answer."""

    url = ""  # set by the test
    operations = 0  # counted over all examples
    outcomes: "set[Outcome | Closed | Noted]" = set()  # noqa: RUF012 - seen over all examples
    packets = Bundle("packets")

    @initialize()
    def begin(self) -> None:
        self.runner, self.stack, self.model = (
            asyncio.Runner(loop_factory=uvloop.new_event_loop),
            AsyncExitStack(),
            Model(),
        )
        self.lane = self.runner.run(self.stack.enter_async_context(lane_on(self.url)))

    def teardown(self) -> None:
        try:
            self.run(self.compare)
            self.run(self.replay)
        finally:
            self.runner.run(self.stack.aclose())
            self.runner.close()

    def run(self, step: Callable[[], Coroutine[object, object, T]]) -> T:
        return self.runner.get_loop().run_until_complete(step())  # ``Runner.run`` sets a signal handler each time

    @rule(
        target=packets,
        amounts=st.lists(st.integers(1, 9), min_size=1, max_size=6),
        recipients=st.just([]) | st.lists(st.sampled_from(USERS), min_size=1, max_size=4, unique=True),
    )
    def open(self, amounts: list[int], recipients: list[str]) -> str:
        packet_id = self.run(lambda: self.lane.open(amounts, recipients=recipients))
        self.model.open(packet_id, Packet(amounts, recipients, over=False))
        return packet_id

    @rule(target=packets, amount=st.integers(1, 9), recipient=st.sampled_from(USERS), is_swept=st.booleans())
    def open_transfer(self, amount: int, recipient: str, is_swept: bool) -> str:
        packet_id = self.run(lambda: self.lane.open([amount], recipients=[recipient], arrives_at_ms=FAR_FUTURE_MS))
        self.model.open(packet_id, Packet([amount], [recipient], over=False, is_held=True, is_transfer=True))
        if is_swept:
            self.arrive(packet_id)
            self.close(packet_id, PacketState.EXPIRED)
        return packet_id

    @rule(packet_id=packets)
    def arrive(self, packet_id: str) -> None:
        packet = self.model.packets.get(packet_id)
        if packet is not None and packet.is_held:
            packet.is_held, packet.is_due = False, packet.state is PacketState.OPEN
            self.run(lambda: self.lane.arrive(packet_id))

    @rule(user=st.sampled_from(USERS), is_frozen=st.booleans())
    def freeze(self, user: str, is_frozen: bool) -> None:
        before, frozen = self.model.frozen_version, [user] if is_frozen else []
        lifted = [] if is_frozen else [user]
        # The second time it is told nothing new, the third time something it cannot know.
        for after in (before, before, before + 7):
            reached = self.run(lambda after=after: self.lane.store.freeze(LANE, after, before + 1, frozen, lifted))  # type: ignore[misc]
            assert reached == before + 1
        self.model.frozen_version += 1
        self.model.frozen = (self.model.frozen | {*frozen}) - {*lifted}

    @rule(
        untils_ms=st.dictionaries(
            st.sampled_from(USERS), st.sampled_from([0, LONG_AGO_MS, FAR_FUTURE_MS, FAR_FUTURE_MS]), min_size=1
        )
    )
    def limit(self, untils_ms: dict[str, int]) -> None:
        before = self.model.limited_version
        for after in (before, before, before + 7):
            reached = self.run(lambda after=after: self.lane.store.limit(LANE, after, before + 1, untils_ms))  # type: ignore[misc]
            assert reached == before + 1
        self.model.limited_version += 1
        limited = {user for user, until_ms in untils_ms.items() if until_ms == FAR_FUTURE_MS}
        self.model.limited = (self.model.limited - untils_ms.keys()) | limited

    @rule(packet_id=packets, user=st.sampled_from(USERS), consents=st.booleans())
    def note(self, packet_id: str, user: str, consents: bool) -> None:
        answer = self.run(
            lambda: self.lane.store.note_view(
                packet_id, user, consents=consents, not_after_ms=FAR_FUTURE_MS, named_max=NAMED_MAX
            )
        )
        assert answer == self.model.note(packet_id, user, consents=consents)
        self.outcomes.add(answer[0])

    @rule(target=packets)
    def name_a_packet_that_is_not_there(self) -> str:
        return new_packet_number(LANE)

    @rule(
        asked=st.lists(
            st.tuples(packets, st.lists(st.sampled_from(USERS), min_size=1, max_size=10)),
            min_size=1,
            max_size=5,
            unique_by=lambda pair: pair[0],
        ),
        room=st.none() | st.integers(-1, 8),
    )
    def claim(self, asked: list[tuple[str, list[str]]], room: int | None) -> None:
        waiting = self.model.position - self.model.applied
        backlog_max = 1_000 if room is None else waiting + room
        reply = self.run(lambda: self.lane.store.claim(LANE, dict(asked), backlog_max=backlog_max))
        answers = reply.results
        assert answers == [
            answer for packet_id, hands in asked for answer in self.model.claim_all(packet_id, hands, backlog_max)
        ]
        assert (reply.position, reply.acks) == (self.model.position, None)
        type(self).operations += len(answers)
        self.outcomes.update(answer.outcome for answer in answers)

    @rule(packet_id=packets)
    def run_out(self, packet_id: str) -> None:
        if packet_id in self.model.packets:
            packet = self.model.packets[packet_id]
            packet.over, packet.is_due = True, packet.state is PacketState.OPEN
            self.run(lambda: self.lane.run_out(packet_id))

    @rule(packet_id=packets, reason=st.sampled_from([PacketState.EXPIRED, PacketState.RETRACTED]))
    def close(self, packet_id: str, reason: PacketState) -> None:
        answer = self.run(lambda: self.lane.close(packet_id, CloseReason(reason)))
        assert answer == self.model.close(packet_id, reason)
        type(self).operations += 1
        self.outcomes.add(answer[0])

    @rule(share=st.floats(0, 1))
    def apply(self, share: float) -> None:
        """The ledger catches up; the stream keeps its entries, so that the whole can be replayed in the end."""
        self.model.applied += int(share * (self.model.position - self.model.applied))
        self.run(lambda: self.lane.set_applied(self.model.applied))

    @invariant()
    def positions_agree(self) -> None:
        assert self.run(self.lane.position) == self.model.position

    async def compare(self) -> None:
        """Everything Redis holds is what the model says."""
        for packet_id, packet in self.model.packets.items():
            await self.lane.assert_consistent(packet_id, packet.amounts)
            counts = await self.lane.store.counts(packet_id)
            assert counts is not None
            assert (counts.state, counts.remaining_fen) == (packet.state, sum(packet.rest))
            assert {row.user_id: row.slot for row in await self.lane.store.claims(packet_id)} == packet.claims
            if packet.state is PacketState.EXHAUSTED:
                assert counts.luckiest is not None
                assert packet.claims[counts.luckiest.user_id] == packet.amounts.index(max(packet.amounts))
        still_open = {name for name, packet in self.model.packets.items() if packet.state is PacketState.OPEN}
        assert set(await self.lane.due()) == still_open
        late = {name for name in still_open if self.model.packets[name].is_due}
        assert set(await self.lane.store.due(LANE, LONG_AGO_MS, 1_000)) == late

    async def replay(self) -> None:
        """The stream alone rebuilds who has what and how each packet ended."""
        await self.lane.assert_contiguous()
        states: dict[str, PacketState] = {}
        claims: dict[str, dict[str, int]] = {}
        refunds: dict[str, int] = {}
        for entry in await self.lane.entries():
            for change in entry.changes:
                packet_id = str(change.packet)
                match change:
                    case Opening():
                        assert packet_id not in states
                        states[packet_id], claims[packet_id] = PacketState.OPEN, {}
                    case Claims():
                        assert states[packet_id] is PacketState.OPEN
                        for row in rows_of(change):
                            assert row.user_id not in claims[packet_id]
                            assert row.amount_fen == self.model.packets[packet_id].amounts[row.slot]
                            claims[packet_id][row.user_id] = row.slot
                    case Ending():
                        assert states[packet_id] is PacketState.OPEN
                        states[packet_id], refunds[packet_id] = change.state, change.remaining_fen
        packets = self.model.packets
        assert states == {name: packet.state for name, packet in packets.items()}
        assert claims == {name: packet.claims for name, packet in packets.items()}
        assert all(refunds[name] == sum(packets[name].rest) for name in refunds)


@pytest.mark.long
@pytest.mark.parametrize("script_server", ["redis_server"], indirect=True, ids=["standalone"])
def test_redis_answers_as_the_model_does(script_server: EmbeddedRedis) -> None:
    """The other script tests cover the cluster-enabled server; here speed is worth more."""

    class OnThisServer(Claiming):
        url = script_server.url

    wanted = {
        *Outcome,
        *(Closed.CLOSED, Closed.ENDED, Closed.NOT_DUE, Closed.ARRIVED, Closed.CLAIMED, Closed.VIEWED),
        *(Noted.NOTED, Noted.NOT_VIEWED, Noted.CLAIMED, Noted.ENDED, Noted.MISSING),
    }
    for number in range(PASSES_MAX):
        run_state_machine_as_test(
            seed(number)(OnThisServer),
            settings=settings(
                max_examples=280,
                stateful_step_count=40,
                derandomize=False,
                deadline=None,
                # Shrinking forty steps on a server takes longer than a test may; the steps as they were tell enough.
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
        if OnThisServer.outcomes >= wanted:
            break
    assert OnThisServer.operations >= 2_000
    assert OnThisServer.outcomes >= wanted
