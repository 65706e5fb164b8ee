"""Whatever order things happen in, and by whichever way a claim comes, it is answered as plain Python would answer."""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import orjson
import pytest
from hypothesis import HealthCheck, Phase, seed
from hypothesis import settings as with_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from engine.access.tokens import issue, load_secret
from engine.auditing.audit import audit
from engine.engine import Engine
from engine.ids import lane_of, new_packet_number
from engine.lanes import keys
from engine.lanes.clients import command
from engine.lanes.replies import Closed, CloseReason
from engine.packets.split import split
from engine.packets.sweeper import sweep_lane
from engine.persisting.persister import persist
from engine.records import PacketState
from engine.settings import Settings
from tests.support.both_ways import Asked, Headers, Opened, Run, ask, in_a_thread, open_app
from tests.support.scenes import changed, is_settled, send

T = TypeVar("T")
USERS = ["ada", "bob", "eve", "1", "01", "a:b"]
WAYS = ["short", "long", "batch"]
BACKLOG_MAX = 12
PASSES_MAX = 4
"""Which examples a pass makes depends on what was imported, so one alone may miss an outcome."""
PROBLEMS = {"not_invited": 403, "unknown_packet": 404, "busy": 503}
Claim = tuple[str, str]
"""A packet's number and a user."""
Answer = tuple[str, int]
"""An outcome or a problem's code, and an amount in fen."""


@dataclass
class Packet:
    """What the model knows of one packet."""

    amounts: list[int]
    recipients: list[str]
    over: bool = False
    state: PacketState = PacketState.OPEN
    claims: dict[str, int] = field(default_factory=dict)  # user -> amount
    is_dropped: bool = False

    @property
    def rest(self) -> list[int]:
        return self.amounts[len(self.claims) :]


@dataclass
class Model:
    """The rules, one claim after the other. ``waiting``: the changes of each lane that the ledger does not have."""

    packets: dict[str, Packet] = field(default_factory=dict)
    waiting: Counter[int] = field(default_factory=Counter)

    def claim_all(self, claims: Sequence[Claim]) -> list[Answer]:
        """Claims that come together are answered packet by packet."""
        answers: dict[int, Answer] = {}
        for packet_id in dict.fromkeys(packet_id for packet_id, _ in claims):
            for place, claim in enumerate(claims):
                if claim[0] == packet_id:
                    answers[place] = self.claim(*claim)
        return [answers[place] for place in range(len(claims))]

    def claim(self, packet_id: str, user: str) -> Answer:  # noqa: PLR0911 - one an outcome
        packet = self.packets.get(packet_id)
        if packet is None:
            return "unknown_packet", 0
        if user in packet.claims:
            return "already_claimed", packet.claims[user]
        if packet.state is PacketState.RETRACTED:
            return "retracted", 0
        if packet.state is PacketState.EXPIRED or (packet.state is PacketState.OPEN and packet.over):
            return "expired", 0
        if packet.recipients and user not in packet.recipients:
            return "not_invited", 0
        if not packet.rest:
            return "sold_out", 0
        if self.waiting[lane_of(packet_id)] >= BACKLOG_MAX:
            return "busy", 0
        amount_fen = packet.claims[user] = packet.rest[0]
        self.waiting[lane_of(packet_id)] += 1
        if not packet.rest:
            packet.state = PacketState.EXHAUSTED
        return "claimed", amount_fen

    def close(self, packet_id: str, state: PacketState) -> Closed:
        packet = self.packets.get(packet_id)
        if packet is None or packet.is_dropped:
            return Closed.MISSING
        if packet.state is not PacketState.OPEN:
            return Closed.ENDED
        if state is PacketState.RETRACTED and packet.claims:
            return Closed.CLAIMED
        packet.state = state
        self.waiting[lane_of(packet_id)] += 1
        return Closed.CLOSED


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Two API processes' applications on the same servers, each with a memory of its own."""

    apps: Sequence[Opened]
    engine: Engine
    tokens: dict[str, bytes]

    @classmethod
    async def open(cls, settings: Settings, stack: AsyncExitStack) -> "World":
        opened = [await stack.enter_async_context(open_app(settings)) for _ in range(2)]
        secret = load_secret(settings)
        tokens = {user: issue(secret, user, ("claim",), 3_600).encode() for user in USERS}
        tokens["backend"] = issue(secret, "backend", ("act",), 3_600).encode()
        for app in opened:
            for token in tokens.values():
                app.front.verifier.verify(token)
        return cls(apps=opened, engine=opened[0].front.engine, tokens=tokens)

    def headers(self, user: str) -> Headers:
        return ((b"authorization", b"Bearer " + self.tokens[user]),)

    async def claim(self, app: Opened, claim: Claim, *, long: bool) -> Answer:
        """One claim by one of its two ways."""
        packet_id, user = claim
        asked = Asked(path=f"/v1/packets/{packet_id}/claims", headers=self.headers(user))
        reply, was_short = await ask(app, asked, long=long)
        assert reply is not None
        assert was_short is not long
        answer = orjson.loads(reply.body)
        if reply.status != 200:
            assert PROBLEMS[answer["code"]] == reply.status
            return answer["code"], 0
        assert (answer.pop("packet_id"), answer.pop("user_id")) == claim
        return _told(answer)

    async def claim_together(self, app: Opened, claims: Sequence[Claim], *, longs: Sequence[bool]) -> list[Answer]:
        """Several requests at the same time."""
        asking = (self.claim(app, claim, long=long) for claim, long in zip(claims, longs, strict=True))
        return await asyncio.gather(*asking)

    async def claim_in_batch(self, app: Opened, claims: Sequence[Claim]) -> list[Answer]:
        """One POST /v1/claims."""
        body = orjson.dumps({"claims": [{"packet_id": packet, "user_id": user} for packet, user in claims]})
        length = ((b"content-length", b"%d" % len(body)),)
        reply, _ = await ask(app, Asked(path="/v1/claims", headers=self.headers("backend") + length, chunks=(body,)))
        assert reply is not None
        assert reply.status == 200
        results = orjson.loads(reply.body)["results"]
        assert [(result.pop("packet_id"), result.pop("user_id")) for result in results] == claims
        return [_told(result) if "outcome" in result else (result["code"], 0) for result in results]

    async def send(self, count: int, recipients: list[str]) -> tuple[str, list[int]]:
        """A packet and its shares in their order."""
        sent = await send(self.engine, count=count, total_fen=100 * count, recipients=recipients)
        query = "SELECT split::text, total_fen, count, min_fen, max_fen, seed FROM packets WHERE packet_id = $1"
        terms = await self.engine.pool.fetchrow(query, int(sent.packet_id))
        assert terms is not None
        amounts: list[int] = split(*terms.values()).tolist()
        return sent.packet_id, amounts

    async def let_time_run_out(self, packet_id: str) -> None:
        await command(self.engine.redis, "HSET", keys.packet(packet_id), "expires_at_ms", 1)
        await command(self.engine.redis, "ZADD", keys.due(lane_of(packet_id)), "XX", 1, packet_id)

    async def sweep(self) -> int:
        return sum([await sweep_lane(self.engine.store, lane, 1_000, 1_000_000) for lane in self.engine.lanes])

    async def persist(self) -> None:
        """Bring the ledger up to this moment."""
        at_once = asyncio.Event()
        at_once.set()
        await persist(self.engine.settings, self.engine.store, self.engine.stream, self.engine.lanes, at_once)

    async def drop(self, packet_id: str) -> bool:
        """Take a settled packet's keys from Redis, as if their time were over; whether it was settled."""
        if await is_settled(self.engine, packet_id):
            assert await command(self.engine.redis, "PTTL", keys.packet(packet_id)) > 0
            return bool(await command(self.engine.redis, "UNLINK", *keys.all_of(packet_id)))
        return False


def _told(answer: dict[str, Any]) -> Answer:
    assert answer.keys() == {"outcome", "amount_fen"}
    return answer["outcome"], answer["amount_fen"]


class Claiming(RuleBasedStateMachine):
    """Claims by every way, closes, persists and drops in the engine and in the model, and compares every answer."""

    world: World  # set by the test, as is ``run``
    run: Run
    seen: ClassVar[dict[str, Counter[str]]]  # the answers by each way, over all examples
    packets = Bundle("packets")

    @initialize(target=packets)
    def begin(self) -> str:
        self.model = Model()
        return self.send(len(USERS), [])

    def go(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return type(self).run(coroutine)

    def send(self, count: int, recipients: list[str]) -> str:
        packet_id, amounts = self.go(self.world.send(count, recipients))
        self.model.packets[packet_id] = Packet(amounts, recipients)
        self.model.waiting[lane_of(packet_id)] += 1
        return packet_id

    @rule(target=packets, count=st.integers(1, 4))
    def send_to_all(self, count: int) -> str:
        return self.send(count, [])

    @rule(target=packets, recipients=st.lists(st.sampled_from(USERS), min_size=1, max_size=4, unique=True))
    def send_to_some(self, recipients: list[str]) -> str:
        return self.send(max(1, len(recipients) - 1), recipients)

    @rule(target=packets, lane=st.sampled_from([0, 1, 999]))
    def name_a_packet_that_is_not_there(self, lane: int) -> str:
        return new_packet_number(lane)

    @rule(packet_id=packets, user=st.sampled_from(USERS), app=st.integers(0, 1), long=st.booleans())
    def claim(self, packet_id: str, user: str, app: int, long: bool) -> None:
        self.claim_together(app, [(packet_id, user)], [long])

    @rule(
        app=st.integers(0, 1),
        claims=st.lists(st.tuples(packets, st.sampled_from(USERS)), min_size=1, max_size=8),
        ways=st.lists(st.booleans(), min_size=8, max_size=8),
    )
    def claim_together(self, app: int, claims: list[Claim], ways: list[bool]) -> None:
        longs = ways[: len(claims)]
        answers = self.go(self.world.claim_together(self.world.apps[app], claims, longs=longs))
        assert answers == self.model.claim_all(claims)
        for (answer, _), long in zip(answers, longs, strict=True):
            self.seen["long" if long else "short"][answer] += 1

    @rule(app=st.integers(0, 1), claims=st.lists(st.tuples(packets, st.sampled_from(USERS)), min_size=1, max_size=12))
    def claim_in_batch(self, app: int, claims: list[Claim]) -> None:
        answers = self.go(self.world.claim_in_batch(self.world.apps[app], claims))
        assert answers == self.model.claim_all(claims)
        self.seen["batch"].update(answer for answer, _ in answers)

    @rule(packet_id=packets)
    def run_out(self, packet_id: str) -> None:
        packet = self.model.packets.get(packet_id)
        if packet is not None and packet.state is PacketState.OPEN:
            packet.over = True
            self.go(self.world.let_time_run_out(packet_id))

    @rule()
    def sweep(self) -> None:
        due = [name for name, packet in self.model.packets.items() if packet.over and packet.state is PacketState.OPEN]
        for packet_id in due:
            self.model.close(packet_id, PacketState.EXPIRED)
        assert self.go(self.world.sweep()) == len(due)

    @rule(packet_id=packets)
    def retract(self, packet_id: str) -> None:
        if lane_of(packet_id) in self.world.engine.lanes:
            reply, _, _ = self.go(self.world.engine.store.close(packet_id, CloseReason.RETRACTED))
            assert reply is self.model.close(packet_id, PacketState.RETRACTED)

    @precondition(lambda self: self.model.waiting.total() > 4)
    @rule()
    def persist(self) -> None:
        self.go(self.world.persist())
        self.model.waiting.clear()

    @rule(packet_id=packets)
    def drop(self, packet_id: str) -> None:
        packet = self.model.packets.get(packet_id)
        if packet is None or packet.is_dropped:
            return
        packet.is_dropped = self.go(self.world.drop(packet_id))
        assert not (packet.is_dropped and packet.state is PacketState.OPEN)

    def teardown(self) -> None:
        """In the end everybody asks for everything: what is left, then what has ended, then what is gone."""
        self.ask_for_everything()
        for packet_id in self.model.packets:
            self.run_out(packet_id)
        self.sweep()
        self.ask_for_everything()
        self.persist()
        for packet_id in self.model.packets:
            self.drop(packet_id)
        self.ask_for_everything()

    def overflow(self) -> None:
        """More shares than may wait for the ledger, and a packet that is taken back: chance might leave them out."""
        self.retract(self.begin())
        for _ in range(6):
            self.send_to_all(4)
        self.teardown()

    def ask_for_everything(self) -> None:
        claims = [(packet_id, user) for packet_id in (*self.model.packets, new_packet_number(0)) for user in USERS]
        first = len(self.model.packets)  # so that each way is the first in some examples
        for app in range(2):
            for way in (*WAYS, *WAYS)[first % 3 : first % 3 + 3]:
                if way == "batch":
                    self.claim_in_batch(app, claims)
                else:
                    self.claim_together(app, claims, [way == "long"] * len(claims))


@pytest.mark.long
async def test_claims_are_answered_as_the_model_does(settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        the_world = await World.open(changed(settings, backlog_max=BACKLOG_MAX), stack)

        def examples(running: Run) -> None:
            class OnThisLoop(Claiming):
                world, seen = the_world, seen_by
                run = staticmethod(running)

            OnThisLoop().overflow()
            for number in range(PASSES_MAX):
                run_state_machine_as_test(
                    seed(number)(OnThisLoop),
                    settings=with_settings(
                        max_examples=30,
                        stateful_step_count=40,
                        derandomize=False,
                        deadline=None,
                        # Shrinking takes longer than a test may; the steps as they were tell enough.
                        phases=[Phase.generate],
                        suppress_health_check=list(HealthCheck),
                    ),
                )
                if all(counts.keys() == outcomes for counts in seen_by.values()):
                    break

        outcomes = {"claimed", "already_claimed", "sold_out", "expired", "retracted", *PROBLEMS}
        seen_by: dict[str, Counter[str]] = {way: Counter() for way in WAYS}
        await in_a_thread(examples)
        assert all(counts.keys() == outcomes for counts in seen_by.values()), seen_by
        assert sum(counts.total() for counts in seen_by.values()) >= 3_000
        await the_world.persist()
        engine = the_world.engine
        findings = await audit(engine.pool, engine.store, engine.stream)
        assert [finding for finding in findings if not finding.holds] == []


async def test_who_was_not_invited_hears_so_for_good(settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        world = await World.open(settings, stack)
        packet_id, (amount_fen,) = await world.send(1, ["ada"])
        for user, answer in (("ada", ("claimed", amount_fen)), ("bob", ("not_invited", 0))):
            assert await world.claim(world.apps[0], (packet_id, user), long=False) == answer
        await world.persist()
        assert await world.drop(packet_id)
        for user, answer in (("ada", ("already_claimed", amount_fen)), ("bob", ("not_invited", 0))):
            assert await world.claim(world.apps[0], (packet_id, user), long=False) == answer
