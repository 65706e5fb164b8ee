"""What the demo plays on a running engine: deposits, packets, the storm with its kills, the wait, the comparison."""

import asyncio
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from engine.access import tokens
from engine.ids import lane_of
from engine.running import cluster_lanes
from engine.settings import Settings
from loadtest.demo.storm import TRIES_MAX, Answers, Client, storm
from loadtest.nodes import Nodes
from loadtest.running import Running
from loadtest.steps import Steps

_SETTLE_S_MAX = 30.0
_CLUSTER_TRIES_MAX = 200
"""A cluster's master that was killed is away for two to four seconds, or longer on a busy machine."""
_WATCH_S = 0.2
_POLL_S = 0.05
_LAG = re.compile(r"^hongbao_persister_lag_(events|seconds)\{.*\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The sizes. ``taps``: claim requests. ``hands``: how many of them at once."""

    senders: int = 12
    users: int = 600
    packets: int = 64
    taps: int = 24_000
    hands: int = 96
    large_count: int = 2_000
    timed_count: int = 200
    timed_taps: int = 50
    timed_ttl_s: int = 4


FULL = Sizes()


@dataclass(slots=True)
class Story:
    """What happened, for the report. ``packets``: id -> the terms it was sent with."""

    answers: Answers = field(default_factory=Answers)
    packets: dict[str, dict[str, object]] = field(default_factory=dict)
    timed_packet: str = ""
    large_packet: str = ""
    storm_s: float = 0.0
    settle_s: float = 0.0
    lag_events_max: float = 0.0
    lag_s_max: float = 0.0
    killed: list[str] = field(default_factory=list)
    away_s: float | None = None
    """How long claims on packets of the killed Redis master were put off. None: none was killed."""
    put_off: int = 0
    """How often such a claim was asked again."""
    views: dict[str, dict[str, object]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


async def play(engine: Running, sizes: Sizes, steps: Steps, *, has_cluster: bool = False) -> Story:
    """Play everything. Raises ContradictionError if two answers cannot both be true, or if none comes.

    ``has_cluster``: the engine has a Redis Cluster, of which a master is killed as well.
    """
    users = [f"user-{number:03d}" for number in range(sizes.users)]
    senders = [f"sender-{number:02d}" for number in range(sizes.senders)]
    tries_max = _CLUSTER_TRIES_MAX if has_cluster else TRIES_MAX
    async with Client(engine.base_url, _tokens(engine, users + senders), sizes.hands, tries_max) as client:
        stage = _Stage(
            engine=engine,
            sizes=sizes,
            steps=steps,
            client=client,
            users=users,
            senders=senders,
            has_cluster=has_cluster,
        )
        await stage.send()
        with stage.watching_lag():
            await stage.tap()
            await stage.settle()
        await stage.compare()
    return stage.story


def _tokens(engine: Running, users: list[str]) -> dict[str, str]:
    secret = tokens.load_secret(Settings.load(data_dir=engine.data_dir))
    issued = {user: tokens.issue(secret, user, ("send", "claim"), 3_600) for user in users}
    return {**issued, "admin": tokens.issue(secret, "admin", ("admin",), 3_600)}


@dataclass(slots=True, kw_only=True)
class _Stage:
    """The users, the engine, and the story so far."""

    engine: Running
    sizes: Sizes
    steps: Steps
    client: Client
    users: list[str]
    senders: list[str]
    has_cluster: bool
    story: Story = field(default_factory=Story)
    chance: random.Random = field(default_factory=lambda: random.Random(2016))

    async def send(self) -> None:
        """Fill the senders' wallets and send packets of both kinds: one is large, and one will expire.

        The senders are merchants, because a person may not send this many shares.
        """
        with self.steps.step("deposits and packets", len(self.senders) + self.sizes.packets) as step:
            for sender in self.senders:
                deposit: dict[str, object] = {"amount_fen": 10_000_000}
                await self.client.post(f"/v1/wallets/{sender}/deposits", "admin", deposit, f"fund-{sender}")
                await self.client.put(f"/v1/accounts/{sender}/profile", "admin", {"kind": "merchant"})
                step.advance()
            for number in range(self.sizes.packets):
                terms, sender = self._terms(number), self.senders[number % len(self.senders)]
                sent = await self.client.post("/v1/packets", sender, terms, f"packet-{number}")
                self.story.timed_packet = str(sent["packet_id"])  # the last one
                self.story.packets[self.story.timed_packet] = terms
                if number == 1:
                    self.story.large_packet = self.story.timed_packet
                step.advance()

    def _terms(self, number: int) -> dict[str, object]:
        sizes, chance = self.sizes, self.chance
        if number == sizes.packets - 1:
            return {"count": sizes.timed_count, "total_fen": 60_000, "split": "lucky", "ttl_s": sizes.timed_ttl_s}
        if number == 1:
            return {"count": sizes.large_count, "total_fen": 888_888, "split": "lucky", "greeting": "红包雨"}
        count = chance.randint(8, 100)
        split = "equal" if number % 3 == 0 else "lucky"
        return {"count": count, "total_fen": count * chance.randint(20, 900), "split": split}

    async def tap(self) -> None:
        """Send claims and kill processes meanwhile: the persister halfway, an API process a little later.

        A cluster's master is killed first, so that nothing else is away while its packets are.
        """
        sizes, story = self.sizes, self.story
        kills, due = {sizes.taps // 2: "persist", sizes.taps * 5 // 8: "serve-1"}, list[str]()
        master = await asyncio.to_thread(self._master) if self.has_cluster else ""
        if master:
            kills[sizes.taps // 4] = master
        killed_s = 0.0
        with self.steps.step(f"{sizes.users} users tapping", sizes.taps) as step:

            def tapped() -> None:
                nonlocal killed_s
                step.advance()
                if step.done in kills:
                    due.append(kills[step.done])
                    if master and due == ["persist"]:
                        story.away_s = max(0.0, story.answers.retried_last_s - killed_s)
                        story.put_off = story.answers.retried
                if due and self.engine.kill(due[0]):  # otherwise it is killed at the next tap
                    if due[0] == master:
                        killed_s = time.perf_counter()
                    story.killed.append(due.pop(0))

            story.storm_s = await storm(
                self.client, self._taps(), hands=sizes.hands, answers=story.answers, tapped=tapped
            )

    def _master(self) -> str:
        """The Redis master that holds the large packet, which is claimed all the time. Empty if none does for long."""
        settings = cluster_lanes.with_lanes(Settings.load(data_dir=self.engine.data_dir))
        nodes, lane = Nodes(self.engine.data_dir, settings.lanes), lane_of(self.story.large_packet)
        until_s = time.monotonic() + _SETTLE_S_MAX
        while (master := nodes.holder_of(lane)) is None and time.monotonic() < until_s:
            time.sleep(_WATCH_S)  # a replica is taking over
        return "" if master is None else master.name

    def _taps(self) -> list[tuple[str, str]]:
        """The taps. Too few users claim the timed packet first to empty it. A quarter of all taps are repeats."""
        sizes, chance, timed = self.sizes, self.chance, self.story.timed_packet
        ids = [packet_id for packet_id in self.story.packets if packet_id != timed]
        taps = [(chance.choice(ids), chance.choice(self.users)) for _ in range(sizes.taps * 3 // 4)]
        taps += chance.choices(taps, k=sizes.taps - len(taps) - sizes.timed_taps)
        chance.shuffle(taps)
        return [(timed, user) for user in self.users[: sizes.timed_taps]] + taps

    @contextmanager
    def watching_lag(self) -> Iterator[None]:
        """Record the persister's largest lag during the block."""

        async def watch() -> None:
            while True:
                await self._lag_events()
                await asyncio.sleep(_WATCH_S)

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            if watching.done() and not watching.cancelled():
                self.story.problems.append(f"the lag could not be watched to the end: {watching.exception()}")
            watching.cancel()

    async def _lag_events(self) -> float:
        """The ledger's lag at this moment, in changes over all lanes."""
        behind = 0.0
        for kind, value in _LAG.findall(await self.client.text("/metrics")):
            if kind == "events":
                behind += float(value)
            else:
                self.story.lag_s_max = max(self.story.lag_s_max, float(value))
        self.story.lag_events_max = max(self.story.lag_events_max, behind)
        return behind

    async def settle(self) -> None:
        """Wait until the persister has applied everything and the timed packet is refunded."""
        story = self.story
        started_s = time.perf_counter()
        with self.steps.step("settling packets that have ended", len(story.packets)) as step:
            while time.perf_counter() - started_s < _SETTLE_S_MAX:
                for packet_id in story.packets:
                    story.views[packet_id] = await self.client.get(f"/v1/packets/{packet_id}", "admin")
                ended = [view for view in story.views.values() if view["state"] != "open"]
                step.show(sum(view["settled_at_ms"] is not None for view in ended), len(ended))
                is_refunded = story.views[story.timed_packet]["state"] == "expired"
                if is_refunded and step.done == step.total and not await self._lag_events():
                    break
                await asyncio.sleep(_POLL_S)
            else:
                story.problems.append(f"not everything was settled within {_SETTLE_S_MAX:.0f} s")
        story.settle_s = time.perf_counter() - started_s

    async def compare(self) -> None:
        """Compare the clients' answers with packets' claims and users' wallets."""
        told, listed = self.story.answers.amounts, dict[tuple[str, str], int]()
        told_fen = dict.fromkeys(self.users, 0)
        for (_, user), amount_fen in told.items():
            told_fen[user] += amount_fen
        packets = self.story.packets
        with self.steps.step("comparing all answers with the books", len(packets) + len(self.users)) as step:
            for packet_id in packets:
                claims = await self.client.claims(
                    packet_id, "admin"
                )  # the sender also sees the amounts of open packets
                listed |= {(packet_id, user): amount_fen for user, amount_fen in claims.items()}
                step.advance()
            for user in self.users:
                held = (await self.client.get(f"/v1/wallets/{user}", user))["balance_fen"]
                if held != told_fen[user]:
                    self.story.problems.append(
                        f"the answers to {user} sum to {told_fen[user]} fen, and the wallet holds {held}"
                    )
                step.advance()
        differing = {key for key, _ in listed.items() ^ told.items()}
        if differing:
            self.story.problems.append(f"answers and lists differ in {len(differing)} shares")
