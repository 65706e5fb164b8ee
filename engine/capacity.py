"""How many cores, servers, bytes and connections a rate of claims needs: arithmetic on measured costs.

Everything that it returns is an estimate: nothing was run at these rates.
"""

import math
from dataclasses import dataclass, field

from engine.costs import COSTS, Costs, PacketBytes, packet_bytes
from engine.settings import LANES_MAX, Settings

_BOUNDS: dict[str, tuple[float, float]] = {
    "claims_per_second": (1, 10**9),
    "packet_count": (1, 10**12),
    "shares_per_packet": (1, 10**7),
    "hands_per_share": (1, 10**6),
    "utilization": (0.01, 1),
    "replicas": (0, 16),
    "ledger_claims_per_second": (1, 10**9),
}
_BACKLOG_MAX: int = Settings.model_fields["backlog_max"].default
_CALLS_IN_FLIGHT_MAX: int = Settings.model_fields["calls_in_flight_max"].default
_DATABASE_POOL_MAX: int = Settings.model_fields["database_pool_max"].default
_OTHER_DATABASE_CONNECTIONS = 2
"""A process watches the lanes' tokens on one connection, and may listen for checkpoints on another."""
_CHANGING, _READING, _ENDED = 8, 8, 4
"""Connections of a process to a server, beside those for claims and streams (`engine.lanes.topology`)."""
_CALLS_PER_SECOND_MAX = 1_000
"""Of a process to a lane, while few claims wait (`engine.claiming.batcher`)."""
CALL_CLAIMS_MIN = 25
"""Smaller calls cost clearly more per claim than the model says (part SIZES)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What is asked for. Raises ValueError, in words for an operator, naming the option that is out of bounds.

    ``claims_per_second``: shares that are given. ``packet_count``: packets that are in Redis together.
    ``hands_per_share``: claims per share, of which one wins. ``utilization``: how much of what a part can carry at most
    is planned for. ``scattered``: claims that arrive together are for different packets.
    """

    claims_per_second: int
    packet_count: int
    shares_per_packet: int = 100
    hands_per_share: float = 1.0
    utilization: float = 0.6
    replicas: int = 1
    ledger_claims_per_second: int = COSTS.ledger_claims_per_second
    scattered: bool = False

    def __post_init__(self) -> None:
        """Check the bounds."""
        for name, (least, most) in _BOUNDS.items():
            if not least <= getattr(self, name) <= most:
                option = name.replace("_", "-")
                raise ValueError(f"--{option} must be from {least:,} to {most:,}, not {getattr(self, name):,}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """``peak_s``: how long all shares last at this rate."""

    claims: int
    claims_per_second: int
    losers_per_second: int
    peak_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Processes and cores. A process of ours, and a Redis server, has one core."""

    api_processes: int
    redis_masters: int
    redis_servers: int
    persister_processes: int
    postgres_cores: int
    cores: int
    lanes: int
    claims_per_call: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes. ``redis_backlog``: what the backlog takes at its bound, part of ``redis``; ``_unbounded``: without one."""

    redis: int
    redis_per_server: int
    redis_backlog: int
    redis_backlog_unbounded: int
    api_at_rest: int
    persister_at_rest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """Bytes that all these packets write."""

    ledger: int
    ledger_log: int
    append_only_file_per_server: int
    new_wallet: int
    new_wallet_log: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Bytes per second at the peak, without TCP, IP and TLS; and what is written to disks meanwhile."""

    clients_to_api: int
    api_to_clients: int
    api_and_redis: int
    redis_to_replicas: int
    persister_and_redis: int
    persister_and_postgres: int
    ledger_log: int
    append_only_file_per_server: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Connections:
    """Most that are open together. The API's clients are not among them.

    ``per_cluster_master``: the same as ``per_redis_master`` in a Redis Cluster, where each lane has its own.
    """

    per_redis_master: int
    per_cluster_master: int
    redis: int
    postgres: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Changes that the ledger lacks. ``full_after_s`` None: the bound is not reached."""

    bound: int
    full_after_s: float | None
    at_the_end: int
    caught_up_after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An estimate. ``backlog_max``: HONGBAO_BACKLOG_MAX with which all claims of these packets are admitted."""

    load: Load
    parts: Parts
    memory: Memory
    disk: Disk
    network: Network
    connections: Connections
    backlog: Backlog
    backlog_max: int
    notes: tuple[str, ...] = field(default=())


def plan(demand: Demand, costs: Costs = COSTS) -> Plan:
    """What the demand needs. Raises ValueError if it needs more masters than there can be lanes."""
    load = _load(demand)
    parts = _parts(demand, load, costs)
    of_packet = packet_bytes(demand.shares_per_packet)
    backlog = _backlog(demand, load, parts)
    return Plan(
        load=load,
        parts=parts,
        memory=_memory(demand, parts, of_packet, backlog, costs),
        disk=_disk(demand, parts, of_packet, costs),
        network=_network(demand, load, parts, of_packet, costs),
        connections=_connections(parts),
        backlog=backlog,
        backlog_max=max(_BACKLOG_MAX, math.ceil(backlog.at_the_end / parts.lanes)),
        notes=_notes(demand, parts, costs),
    )


def connections_per_master(lanes: int) -> int:
    """The most that one process has to a server with this many lanes (`engine.lanes.topology.serving`)."""
    return _READING + (lanes + 1) + (lanes * _CALLS_IN_FLIGHT_MAX + _ENDED) + _CHANGING


def _load(demand: Demand) -> Load:
    claims = demand.packet_count * demand.shares_per_packet
    return Load(
        claims=claims,
        claims_per_second=demand.claims_per_second,
        losers_per_second=round(demand.claims_per_second * (demand.hands_per_share - 1)),
        peak_s=claims / demand.claims_per_second,
    )


def _parts(demand: Demand, load: Load, costs: Costs) -> Parts:
    def cores(winner_us: float, loser_us: float = 0.0) -> int:
        busy = (load.claims_per_second * winner_us + load.losers_per_second * loser_us) / 1e6
        return math.ceil(busy / demand.utilization)

    api_us, redis_us = costs.api_us, costs.redis_us
    if demand.scattered:
        api_us, redis_us = costs.scattered_api_us, costs.scattered_redis_us
    api, masters = cores(api_us, costs.loser_api_us), cores(redis_us, costs.loser_redis_us)
    if masters > LANES_MAX:
        needed = f"{masters:,} Redis masters, and there are at most {LANES_MAX:,} lanes"
        raise ValueError(f"--claims-per-second {load.claims_per_second:,} needs {needed}.")
    # A lane has one writer in the ledger at a time.
    writers = math.ceil(load.claims_per_second / (costs.ledger_claims_per_second * demand.utilization))
    lanes = min(LANES_MAX // masters, math.ceil(writers / masters)) * masters
    # A persister follows whole lanes.
    lanes_each = math.floor(demand.utilization * 1e6 * lanes / (load.claims_per_second * costs.persister_us))
    persisters, postgres = math.ceil(lanes / max(1, lanes_each)), cores(costs.postgres_us)
    servers = masters * (1 + demand.replicas)
    in_redis = load.claims_per_second + load.losers_per_second * costs.loser_redis_us / redis_us
    return Parts(
        api_processes=api,
        redis_masters=masters,
        redis_servers=servers,
        persister_processes=persisters,
        postgres_cores=postgres,
        cores=api + servers + persisters + postgres,
        lanes=lanes,
        claims_per_call=max(1.0, in_redis / (api * lanes * _CALLS_PER_SECOND_MAX)),
    )


def _backlog(demand: Demand, load: Load, parts: Parts) -> Backlog:
    bound = _BACKLOG_MAX * parts.lanes
    excess = load.claims_per_second - demand.ledger_claims_per_second
    at_the_end = max(0, math.ceil(excess * load.peak_s))
    return Backlog(
        bound=bound,
        full_after_s=bound / excess if at_the_end > bound else None,
        at_the_end=at_the_end,
        caught_up_after_s=at_the_end / demand.ledger_claims_per_second,
    )


def _memory(demand: Demand, parts: Parts, of_packet: PacketBytes, backlog: Backlog, costs: Costs) -> Memory:
    per_change = of_packet.stream / demand.shares_per_packet
    waiting = round(min(backlog.bound, demand.packet_count * demand.shares_per_packet) * per_change)
    redis = demand.packet_count * max(of_packet.open, of_packet.settled) + waiting
    return Memory(
        redis=redis,
        redis_per_server=math.ceil(redis / parts.redis_masters),
        redis_backlog=waiting,
        redis_backlog_unbounded=round(backlog.at_the_end * per_change),
        api_at_rest=parts.api_processes * costs.api_rest_bytes,
        persister_at_rest=parts.persister_processes * costs.persister_rest_bytes,
    )


def _disk(demand: Demand, parts: Parts, of_packet: PacketBytes, costs: Costs) -> Disk:
    return Disk(
        ledger=round(demand.packet_count * of_packet.ledger),
        ledger_log=round(demand.packet_count * of_packet.ledger_log),
        append_only_file_per_server=round(demand.packet_count * of_packet.append_only_file / parts.redis_masters),
        new_wallet=costs.wallet_bytes,
        new_wallet_log=costs.wallet_log_bytes,
    )


def _network(demand: Demand, load: Load, parts: Parts, of_packet: PacketBytes, costs: Costs) -> Network:
    answers = load.claims_per_second + load.losers_per_second
    packets = load.claims_per_second / demand.shares_per_packet
    return Network(
        clients_to_api=round(answers * costs.request_bytes),
        api_to_clients=round(answers * costs.answer_bytes),
        api_and_redis=round(load.claims_per_second * (costs.to_redis_bytes + costs.from_redis_bytes)),
        redis_to_replicas=round(packets * of_packet.replica * demand.replicas),
        persister_and_redis=round(packets * of_packet.persister_redis),
        persister_and_postgres=round(packets * of_packet.persister_postgres),
        ledger_log=round(packets * of_packet.ledger_log),
        append_only_file_per_server=round(packets * of_packet.append_only_file / parts.redis_masters),
    )


def _connections(parts: Parts) -> Connections:
    processes = parts.api_processes + parts.persister_processes + 1  # and the sweeper
    held = parts.lanes // parts.redis_masters
    per_master = processes * connections_per_master(held)
    return Connections(
        per_redis_master=per_master,
        per_cluster_master=processes * held * connections_per_master(1),
        redis=per_master * parts.redis_masters,
        postgres=processes * (_DATABASE_POOL_MAX + _OTHER_DATABASE_CONNECTIONS) + parts.lanes,  # the persisters' leases
    )


def _notes(demand: Demand, parts: Parts, costs: Costs) -> tuple[str, ...]:
    notes = []
    if demand.claims_per_second > costs.ledger_claims_per_second:
        carried = f"{costs.ledger_claims_per_second:,} claims per second"
        notes.append(
            f"One Postgres was tried with up to {carried}. More cores for it are extrapolated, and the backlog is not: "
            "it grows by what exceeds that rate, or --ledger-claims-per-second."
        )
    if parts.redis_masters > 1 or parts.api_processes > 1:
        notes.append("Costs were measured with one API process, one lane and one Redis server, on two cores.")
    if parts.api_processes > 1 and parts.claims_per_call < CALL_CLAIMS_MIN:
        size = f"{parts.claims_per_call:,.0f} claims" if parts.claims_per_call >= 2 else "hardly more than one claim"
        notes.append(
            f"At {_CALLS_PER_SECOND_MAX:,} calls per second of each process to each lane, a call has {size}. Small "
            "calls cost more per claim, which is not in the cores above: with 16 lanes instead of one it was "
            f"{costs.lanes_api_ratio} times as much for the API and {costs.lanes_redis_ratio} times for Redis. Let the "
            "balancer send each lane's claims to few processes, or plan with a lower --utilization."
        )
    return tuple(notes)
