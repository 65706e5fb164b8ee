"""Memory of claims and processes: Redis bytes per claim in a group packet, and each process at rest."""

from typing import Any

import psutil

from benchmarks.rig import processes
from benchmarks.rig.bench import Bench
from benchmarks.rig.runs import serving
from benchmarks.rig.servers import OURS, POSTGRES
from benchmarks.rig.stage import Stage
from benchmarks.rig.walks import BatchWalk
from benchmarks.rig.world import World
from engine.lanes import keys
from engine.supervision.child import Process

_PACKETS = 50


def memory(bench: Bench) -> None:
    """Measure once: memory does not vary between runs."""
    found: dict[str, Any] = {"claims": [], "at_rest": {}}
    for name, packets, shares in (
        ("tens", bench.plan.packets_of_10, 10),
        ("hundreds", bench.plan.packets_of_100, 100),
    ):
        world = bench.world(name, packets=packets, shares=shares)
        found["claims"].append(_claims(bench.stage, world))
    for server in bench.servers:
        if server is POSTGRES:
            continue  # its database would have to be made first, and is of no interest here
        world = bench.world("tens", packets=bench.plan.packets_of_10, shares=10)
        with serving(bench.stage, world, server, audited=False) as (
            up,
            name,
        ):
            found["at_rest"][server.name] = weight(up.process.pid)
            if server is OURS:
                found["at_rest"] |= _beside(bench.stage, name)
        bench.stage.redis.stop()
    bench.others["memory"] = found
    for claims in found["claims"]:
        bench.say(f"memory: {claims['bytes_a_claim']:.1f} bytes per claim in packets of {claims['shares']}")


def _claims(stage: Stage, world: World) -> dict[str, Any]:
    """Claim all shares of some packets over HTTP, and measure their claims' MEMORY USAGE in Redis."""
    walk = BatchWalk(packets=world.packets, hands=world.shares, size=world.shares, hands_each=world.shares)
    with serving(stage, world, OURS) as (server, _), stage.redis.client() as client:
        own_bytes = 0
        headers = {"Authorization": f"Bearer {stage.token}", "Content-Type": "application/json"}
        for index in range(_PACKETS):
            server.post("/v1/claims", headers, walk.body(index))
        total, record = 0, 0
        for packet_id in world.packets[:_PACKETS]:
            record += int(client.memory_usage(keys.packet(packet_id), samples=0) or 0)
            name = keys.claims(packet_id)
            total += int(client.memory_usage(name, samples=0) or 0)
            held = client.hgetall(name)
            own_bytes += sum(len(user_id) + len(value.split(b":")[1]) for user_id, value in held.items())
    stage.redis.stop()
    claims = _PACKETS * world.shares
    return {
        "shares": world.shares,
        "bytes_a_claim_whole": total / claims,
        "user_and_amount_bytes": own_bytes / claims,
        "bytes_a_claim": (total - own_bytes) / claims,
        "record_bytes_a_claim": record / claims,
    }


def _beside(stage: Stage, database: str) -> dict[str, Any]:
    """Measure the processes beside the API, and the servers."""
    variables = stage.variables(database)
    running: dict[str, Process] = {}
    try:
        for name in ("persist", "sweep"):
            running[name] = processes.hongbao(name, variables=variables, cwd=stage.folder)
            processes.settle(running[name])
        weights = {name: weight(process.pid) for name, process in running.items()}
    finally:
        for process in running.values():
            processes.stop(process)
    return weights | {"redis": weight(stage.redis.pid), "postgres": weight(stage.postgres_process.pid)}


def weight(pid: int) -> dict[str, int]:
    """Resident and proportional bytes of a process tree (proportional: shared pages are divided by their users)."""
    root = psutil.Process(pid)
    tree = [root, *root.children(recursive=True)]
    full = [process.memory_full_info() for process in tree]
    return {
        "processes": len(tree),
        "rss_bytes": sum(info.rss for info in full),
        "pss_bytes": sum(getattr(info, "pss", info.rss) for info in full),
    }
