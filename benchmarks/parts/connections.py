"""What a claim costs with 100, 1,000 and 10,000 clients, and what a connection holds of the API's memory.

Every client asks again as soon as it is answered. Nobody is refused here: the bounds on waiting are out of the way.
"""

import http.client
import resource
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager

from benchmarks.parts.memory import weight
from benchmarks.rig.bench import Bench
from benchmarks.rig.runs import FAILURES, Run, Trial, run, serving
from benchmarks.rig.servers import Started, ours_with
from benchmarks.rig.stage import Stage
from benchmarks.rig.walks import Walk
from benchmarks.rig.world import World

CONNECTIONS = (100, 1_000, 10_000)
KEPT = CONNECTIONS[-1:]
"""A thousand connections fit into memory that the process has anyway, at least in part."""
WORKLOAD = "nobody refused"
HELD = "connections held"
_ROUNDS = 3
_OURS = ours_with(
    {
        "HONGBAO_CONNECTIONS_MAX": "15000",
        "HONGBAO_CLAIM_WAIT_MS_MAX": "60000",
        "HONGBAO_CLAIM_QUEUE_MAX": "100000",
        "HONGBAO_KEEP_ALIVE_S": "600",
    }
)


def connections(bench: Bench) -> None:
    """Measure only our server: the peers refuse nobody and have no bounds."""
    plan = bench.plan
    world = bench.world("hundreds", packets=plan.packets_of_100, shares=100)
    for number in range(1, min(_ROUNDS, plan.rounds) + 1):
        for count in CONNECTIONS if number % 2 else CONNECTIONS[::-1]:
            trial = Trial(
                workload=WORKLOAD,
                walk=Walk(packets=world.packets, hands=100),
                connections=count,
                duration_s=plan.seconds,
                warm_up_s=plan.warm_up_s,
            )
            bench.keep(run(bench.stage, world, _OURS, trial, number))
    for count in KEPT:
        bench.keep(held(bench.stage, world, count))


def held(stage: Stage, world: World, count: int) -> Run:
    """The API's memory per connection, with so many that have had an answer and are kept."""
    about = {"workload": HELD, "server": "hongbao", "round": 1, "connections": count}
    try:
        with serving(stage, world, _OURS, audited=False) as (server, _):
            before_bytes = weight(server.process.pid)["pss_bytes"]
            with _answered(server, stage.token, world.packets[0], count):
                grown_bytes = weight(server.process.pid)["pss_bytes"] - before_bytes
    except FAILURES as error:
        return {**about, "void": f"{type(error).__name__}: {error}"}
    finally:
        stage.redis.stop()
    return {**about, "bytes_a_connection": grown_bytes / count, "void": None}


@contextmanager
def _answered(
    server: Started, token: str, packet_id: str, count: int
) -> Iterator[Sequence[http.client.HTTPConnection]]:
    """So many connections, each of which has claimed once. Raises OSError if this process may not open so many."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with ExitStack() as stack:
        opened = []
        for number in range(count):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            opened.append(stack.enter_context(closing(connection)))
            headers = {"Authorization": f"Bearer {token}", "X-User-Id": f"u{number:07d}"}
            connection.request("POST", f"/v1/packets/{packet_id}/claims", headers=headers)
            connection.getresponse().read()
        yield opened
