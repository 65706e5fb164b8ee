"""The faults of a run, in order. They depend only on the seed: the same seed always makes the same faults."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

Word = TypeVar("Word", bound=str)

PROCESSES = ("serve-1", "serve-2", "persist", "sweep")
"""Our processes. The publisher runs in the sweeper's process."""
SERVERS = ("redis", "postgres")
LINKS = tuple(f"{process}/{server}" for process in PROCESSES for server in SERVERS)


class Kind(StrEnum):
    """What is done to a target for ``lasts_s`` seconds."""

    KILL = "kill"  # SIGKILL of a process; for Postgres: of all its processes
    STOP = "stop"  # SIGSTOP, and SIGCONT afterwards
    REFUSE = "refuse"  # connections of a link are reset, new ones, too
    RESET = "reset"  # connections of a link are reset, once
    SILENCE = "silence"  # a link passes nothing on; afterwards all of it arrives
    MUTE = "mute"  # a link passes requests on but loses answers; afterwards its connections are reset
    DELAY = "delay"  # everything on a link arrives late
    FULL_DISK = "full disk"  # the disk of Redis's log has no room
    EMPTY = "empty"  # FLUSHALL
    REWIND = "rewind"  # Redis is killed and comes back with an older copy of its files
    PARTITION = "partition"  # a master is cut off from all other nodes, while clients reach it
    FAILOVER = "failover"  # CLUSTER FAILOVER: a master's replica takes over by an operator's order
    MOVE = "move"  # `hongbao lanes move`
    SLOT = "slot"  # a lane's slot is moved without the engine's knowledge


CUTS = (Kind.REFUSE, Kind.RESET, Kind.SILENCE, Kind.MUTE, Kind.DELAY)
LOSSES = (Kind.EMPTY, Kind.REWIND)
CLUSTER = (Kind.KILL, Kind.STOP, Kind.PARTITION, Kind.FAILOVER, Kind.MOVE, Kind.SLOT)
"""What happens to a cluster: each as often as the others."""
_LASTS_S = {Kind.STOP: (1.5, 4.0), Kind.PARTITION: (2.5, 4.0)}
"""Longer than the node timeout of 1 s. Some stops end about when the replica takes over."""
_OTHERS = (Kind.STOP, Kind.STOP, *CUTS)
"""The kinds of faults besides kills."""
PATIENCE_S = 8.0
_LANE = "lane "
_KILLS_A_LOSS = 8
_KILLS_A_FULL_DISK = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """``kind`` happens to ``target``, ``after_s`` seconds after the previous fault began.

    A kill waits up to ``patience_s`` until its target is ready. Without patience, the target may still be starting.
    """

    after_s: float
    kind: Kind
    target: str
    lasts_s: float = 0.0
    patience_s: float = 0.0

    def line(self) -> str:
        """The fault as a line for reports."""
        lasting = f" for {self.lasts_s:.2f} s" if self.lasts_s else ""
        patient = " at work" if self.patience_s else ""
        return f"+{self.after_s:.2f} s  {self.kind} {self.target}{lasting}{patient}"


def make(seed: int, kills: int, *, full_disk: bool = False, lose_redis: bool = False) -> list[Fault]:
    """``kills`` kills, with stops and cuts between them.

    ``full_disk`` and ``lose_redis`` add faults of these kinds and do not change the others.
    """
    chance = random.Random(seed)
    faults: list[Fault] = []
    targets, others, links = _rounds(chance, PROCESSES + SERVERS), _rounds(chance, _OTHERS), _rounds(chance, LINKS)
    stopped = _rounds(chance, PROCESSES + SERVERS)
    for _ in range(kills):
        patience_s = 0.0 if chance.random() < 0.2 else PATIENCE_S
        faults.append(Fault(after_s=_gap_s(chance), kind=Kind.KILL, target=next(targets), patience_s=patience_s))
        if chance.random() < 0.7:
            kind = next(others)
            target = next(stopped) if kind is Kind.STOP else next(links)
            lasts_s = 0.0 if kind is Kind.RESET else round(chance.uniform(0.2, 3.0), 2)
            faults.append(Fault(after_s=_gap_s(chance), kind=kind, target=target, lasts_s=lasts_s))
    rare = random.Random(seed + 1)
    if full_disk:
        _scatter(rare, faults, 1 + kills // _KILLS_A_FULL_DISK, (Kind.FULL_DISK,))
    if lose_redis:
        _scatter(rare, faults, 1 + kills // _KILLS_A_LOSS, LOSSES)
    return faults


def make_for_cluster(seed: int, number: int, lanes: int) -> list[Fault]:
    """``number`` faults of a cluster, each of the master that holds a lane at that moment.

    Between them, a process of ours is killed or its link to Postgres is cut about once per round of the kinds.
    """
    chance = random.Random(seed)
    faults: list[Fault] = []
    kinds = _rounds(chance, CLUSTER)
    targets = _rounds(chance, [lane_name(lane) for lane in range(lanes)])
    killed = _rounds(chance, PROCESSES)
    links, cuts = _rounds(chance, [link for link in LINKS if link.endswith("/postgres")]), _rounds(chance, CUTS)
    for _ in range(number):
        kind = next(kinds)
        lasts_s = round(chance.uniform(*_LASTS_S[kind]), 2) if kind in _LASTS_S else 0.0
        after_s = round(chance.uniform(0.1, 1.0), 2)
        faults.append(Fault(after_s=after_s, kind=kind, target=next(targets), lasts_s=lasts_s))
        if (also := chance.random()) < 1 / 12:
            faults.append(Fault(after_s=_gap_s(chance), kind=Kind.KILL, target=next(killed), patience_s=PATIENCE_S))
        elif also < 1 / 6:
            lasts_s = round(chance.uniform(0.2, 2.0), 2)
            faults.append(Fault(after_s=_gap_s(chance), kind=next(cuts), target=next(links), lasts_s=lasts_s))
    return faults


def lane_name(lane: int) -> str:
    """A lane as the target of a fault."""
    return f"{_LANE}{lane}"


def lane_in(target: str) -> int | None:
    """The lane that is a fault's target. None if another thing is."""
    return int(target.removeprefix(_LANE)) if target.startswith(_LANE) else None


def _gap_s(chance: random.Random) -> float:
    """The gap between two faults. It is sometimes 0, so that two happen at once."""
    return 0.0 if chance.random() < 0.15 else round(chance.uniform(0.2, 1.8), 2)


def _rounds(chance: random.Random, words: Sequence[Word]) -> Iterator[Word]:
    """Each word once in a shuffled order, then again, so that none is left out for long."""
    while True:
        yield from chance.sample(words, len(words))


def _scatter(chance: random.Random, faults: list[Fault], number: int, kinds: Sequence[Kind]) -> None:
    """Put faults of these kinds, in turn, between the others. They come after the first, so that data can be lost."""
    kind_of = _rounds(chance, kinds)
    for _ in range(number):
        kind = next(kind_of)
        lasts_s = round(chance.uniform(1.0, 3.0), 2) if kind is Kind.FULL_DISK else 0.0
        fault = Fault(after_s=round(chance.uniform(0.5, 1.5), 2), kind=kind, target="redis", lasts_s=lasts_s)
        faults.insert(chance.randint(min(1, len(faults)), len(faults)), fault)
