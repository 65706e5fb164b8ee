"""One workload in several circumstances: as a gateway sends it, with bare headers, and with everything on."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.rig.shapes import Shape

EVERYTHING = ("persist", "sweep")
"""Our processes that run beside a server when everything is on. Redis then has its append-only file, too."""
APPENDFSYNC_ON = "everysec"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """``everything_on``: the ledger gets the claims meanwhile, so only servers that make its events take part."""

    shape: Shape = Shape.GATEWAY
    everything_on: bool = False

    def name(self, workload: str) -> str:
        """The workload's name in raw results."""
        bare = f", {self.shape}" if self.shape is Shape.BARE else ""
        return f"{workload}{bare}{', everything on' if self.everything_on else ''}"

    @property
    def beside(self) -> Sequence[str]:
        """The processes that run beside the server."""
        return EVERYTHING if self.everything_on else ()

    @property
    def appendfsync(self) -> str:
        """How Redis keeps its append-only file."""
        return APPENDFSYNC_ON if self.everything_on else "off"


ALONE, BARE, ON = Variant(), Variant(shape=Shape.BARE), Variant(everything_on=True)
