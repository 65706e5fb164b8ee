"""The plan of a run."""

from dataclasses import dataclass

KILLS = 25
KILLS_MAX = 100_000
MODES = ("memory", "fsync", "ledger")
"""The modes of ``HONGBAO_ACK`` that need one Redis."""
CLUSTER_MODES = ("memory", "ledger", "replica")
"""Those that a cluster plays."""
FAULTS = 30
NODES_MIN, NODES_MAX = 3, 9
LANES, LANES_PER_NODE = 2, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``lose_redis``: Redis's data is also lost and set back. ``full_disk``: its disk fills up, if this is possible.

    ``nodes``: the masters of a Redis Cluster, each with a replica, and ``faults``: how many it suffers. 0 nodes: a
    single Redis, and ``kills``.
    """

    seed: int = 1
    kills: int = KILLS
    ack: str = MODES[0]
    lose_redis: bool = False
    full_disk: bool = True
    nodes: int = 0
    faults: int = FAULTS

    @property
    def lanes(self) -> int:
        """How many lanes the engine has."""
        return self.nodes * LANES_PER_NODE if self.nodes else LANES

    def command(self) -> str:
        """The command that plays the plan again."""
        words = ["python -m loadtest.chaos", f"--seed {self.seed}"]
        if self.nodes:
            return " ".join([*words, f"--nodes {self.nodes}", f"--faults {self.faults}", f"--ack {self.ack}"])
        words += [f"--kills {self.kills}", f"--ack {self.ack}"]
        words += ["--lose-redis"] if self.lose_redis else []
        words += [] if self.full_disk else ["--no-full-disk"]
        return " ".join(words)
