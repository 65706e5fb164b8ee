"""What a run is to be."""

from dataclasses import dataclass

KILLS = 25
KILLS_MAX = 100_000
MODES = ("memory", "fsync", "ledger")
"""Those of ``HONGBAO_ACK`` but ``replica``, which needs a second Redis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``lose_redis``: Redis's data is lost and set back as well. ``full_disk``: its disk fills up, where it can."""

    seed: int = 1
    kills: int = KILLS
    ack: str = MODES[0]
    lose_redis: bool = False
    full_disk: bool = True

    def command(self) -> str:
        """What plays it again."""
        words = ["python -m loadtest.chaos", f"--seed {self.seed}", f"--kills {self.kills}", f"--ack {self.ack}"]
        words += ["--lose-redis"] if self.lose_redis else []
        words += [] if self.full_disk else ["--no-full-disk"]
        return " ".join(words)
