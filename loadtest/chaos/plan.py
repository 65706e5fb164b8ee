"""The plan of a run."""

from dataclasses import dataclass

KILLS = 25
KILLS_MAX = 100_000
MODES = ("memory", "fsync", "ledger")
"""The modes of ``HONGBAO_ACK`` except ``replica``, which needs a second Redis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``lose_redis``: Redis's data is also lost and set back. ``full_disk``: its disk fills up, if this is possible."""

    seed: int = 1
    kills: int = KILLS
    ack: str = MODES[0]
    lose_redis: bool = False
    full_disk: bool = True

    def command(self) -> str:
        """The command that plays the plan again."""
        words = ["python -m loadtest.chaos", f"--seed {self.seed}", f"--kills {self.kills}", f"--ack {self.ack}"]
        words += ["--lose-redis"] if self.lose_redis else []
        words += [] if self.full_disk else ["--no-full-disk"]
        return " ".join(words)
