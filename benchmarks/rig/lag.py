"""How many claims come in, and the ledger's lag meanwhile, sampled from Redis several times per second."""

import threading
import time
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from benchmarks.rig import world
from benchmarks.rig.redis_server import RedisServer

_EVERY_S = 0.05


class Sample(NamedTuple):
    """At ``at_s`` (seconds since sampling began) the lanes had emitted ``position`` changes, the ledger ``applied``."""

    at_s: float
    position: int
    applied: int


class Sampler:
    """Takes samples in a thread during the block. ``samples`` has them afterwards.

    ``began_s``: when, by the machine's monotonic clock.
    """

    def __init__(self, redis: RedisServer, lanes: Sequence[int]) -> None:
        self._client, self._lanes = redis.client(), lanes
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.began_s = time.monotonic()
        self.samples: list[Sample] = []

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._stop.set()
        self._thread.join()
        self._client.close()

    def _sample(self) -> None:
        while not self._stop.wait(_EVERY_S):
            position, applied = world.positions(self._client, self._lanes)
            self.samples.append(Sample(time.monotonic() - self.began_s, position, applied))


def emitted_per_s(samples: Sequence[Sample], from_s: float, to_s: float) -> float:
    """How many changes per second the lanes emitted between two times, as exact as the samples allow."""
    times, positions = [sample.at_s for sample in samples], [sample.position for sample in samples]
    first, last = np.interp([from_s, to_s], times, positions)
    return float(last - first) / (to_s - from_s)


def seconds_behind(samples: Sequence[Sample]) -> list[tuple[float, float]]:
    """(at_s, age in seconds of the oldest change that the ledger had not applied), as exact as the samples allow."""
    positions = [sample.position for sample in samples]
    behind = []
    for place, sample in enumerate(samples):
        if sample.applied >= sample.position:
            behind.append((sample.at_s, 0.0))
            continue
        # The first sample with more emitted changes than are applied now: the excess is still waiting.
        first = min(bisect_right(positions, sample.applied, hi=place + 1), place)
        behind.append((sample.at_s, sample.at_s - samples[first].at_s))
    return behind
