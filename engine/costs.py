"""What a packet and its claims cost, as the newest committed benchmark reports have it.

docs/scale.md says which reports, and what they leave out. A test compares each number with them.
"""

import itertools
from dataclasses import astuple, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """CPU time per claim in microseconds, of a saturated process, and rates. Each field names its part of the report.

    Reports in benchmarks/results: 2026-12-01 (AMD EPYC, 2 cores for everything, the load generator included). For LANES
    2026-11-30-growth (the same), for SIZES 2026-11-29-sizes (Intel Xeon, 2 cores, beside other work).
    """

    api_us: float = 11.8
    """Part E: a claim that wins, everything on, append-only file `everysec`."""
    redis_us: float = 3.0
    """Part E: the same claim in Redis, with what the persister reads there."""
    persister_us: float = 2.1
    """Part E."""
    postgres_us: float = 6.8
    """Part E."""
    scattered_api_us: float = 12.3
    """Part A, scattered: each claim in flight is for another packet."""
    scattered_redis_us: float = 10.5
    """Part A, scattered (9.9), and what part E has more than part A: append-only file and persister (0.6)."""
    loser_api_us: float = 10.6
    """Part B: per answer, of which nine in ten are losers."""
    loser_redis_us: float = 0.7
    """Part B: a process remembers ended packets, so that few losers reach Redis."""
    lanes_api_ratio: float = 1.5
    """Part LANES: what 16 lanes cost one API process per claim, by what one lane costs it."""
    lanes_redis_ratio: float = 1.6
    """Part LANES: the same for Redis."""
    ledger_claims_per_second: int = 148_641
    """Part F: the persister alone, one lane, one Postgres."""
    request_bytes: int = 308
    """Part SIZES: a claim as a client sends it, with a token."""
    answer_bytes: int = 382
    """Part SIZES."""
    to_redis_bytes: float = 19.9
    """Part SIZES: from the API, per claim."""
    from_redis_bytes: float = 7.9
    """Part SIZES: to the API, per claim."""
    wallet_bytes: int = 289
    """Part SIZES: what a claim of a new user adds to the ledger beside its entry."""
    wallet_log_bytes: int = 393
    """Part SIZES: the same in Postgres's write-ahead log."""
    api_rest_bytes: int = 102_240_256
    """Part MEMORY: one API process before any request."""
    persister_rest_bytes: int = 90_562_560
    """Part MEMORY."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketBytes:
    """Bytes of one packet with all of its claims. Part SIZES."""

    shares: int
    open: int
    """In Redis while nobody has claimed."""
    settled: int
    """In Redis once all is claimed and in the ledger, until its keys expire (`settled_retention_s`)."""
    stream: int
    """In Redis beside it, if the ledger has none of its claims."""
    append_only_file: int
    replica: int
    """From Redis to each replica."""
    persister_redis: int
    """Between persister and Redis, both ways."""
    persister_postgres: int
    """Between persister and Postgres, both ways."""
    ledger: int
    """In Postgres, with its indexes. Its users have wallets already."""
    ledger_log: int
    """In Postgres's write-ahead log."""


COSTS = Costs()
PACKETS = (
    PacketBytes(
        shares=10,
        open=767,
        settled=973,
        stream=215,
        append_only_file=1_826,
        replica=1_826,
        persister_redis=465,
        persister_postgres=1_424,
        ledger=3_998,
        ledger_log=8_667,
    ),
    PacketBytes(
        shares=100,
        open=2_194,
        settled=4_815,
        stream=2_150,
        append_only_file=8_205,
        replica=8_205,
        persister_redis=2_123,
        persister_postgres=13_368,
        ledger=28_254,
        ledger_log=57_243,
    ),
    PacketBytes(
        shares=1_000,
        open=16_086,
        settled=95_452,
        stream=21_501,
        append_only_file=74_900,
        replica=74_900,
        persister_redis=19_637,
        persister_postgres=132_813,
        ledger=221_839,
        ledger_log=517_620,
    ),
)
"""The three sizes that part SIZES measured."""


def packet_bytes(shares: int) -> PacketBytes:
    """Between the measured sizes on a straight line; beyond them on the nearest one."""
    below, above = next((pair for pair in itertools.pairwise(PACKETS) if shares <= pair[1].shares), PACKETS[-2:])
    part = (shares - below.shares) / (above.shares - below.shares)
    names = PacketBytes.__dataclass_fields__
    values = [round(low + (high - low) * part) for low, high in zip(astuple(below), astuple(above), strict=True)]
    return PacketBytes(**dict(zip(names, values, strict=True)))
