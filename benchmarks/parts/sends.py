"""What it costs to send a packet, with 1, 8 and 64 clients: paid in Postgres, opened in Redis, and in the ledger."""

import asyncio
from uuid import uuid4

import asyncpg

from benchmarks.rig import wrk
from benchmarks.rig.bench import Bench
from benchmarks.rig.cpu import Meter
from benchmarks.rig.runs import FAILURES, BooksWrongError, Run, beside, serving, trees
from benchmarks.rig.servers import OURS
from benchmarks.rig.stage import Stage, wait
from benchmarks.rig.world import World
from engine.engine import Engine
from engine.settings import Settings

CLIENTS = (1, 8, 64)
WORKLOAD = "sends"
_ROUNDS, _SENDERS = 3, 1_000
_SHARES, _TOTAL_FEN = 10, 1_000
_PURSE_FEN = 100_000_000


def sends(bench: Bench) -> None:
    """Measure only our server: the peers have no senders."""
    plan = bench.plan
    world = bench.world("few", packets=10, shares=_SHARES)
    for number in range(1, min(_ROUNDS, plan.rounds) + 1):
        for clients in CLIENTS if number % 2 else CLIENTS[::-1]:
            bench.keep(_run(bench.stage, world, clients, plan.seconds, number))


def _run(stage: Stage, world: World, clients: int, duration_s: int, number: int) -> Run:
    about = {"workload": WORKLOAD, "server": "hongbao", "round": number, "connections": clients}
    try:
        return {**about, **_measured(stage, world, clients, duration_s), "void": None}
    except FAILURES as error:
        return {**about, "void": f"{type(error).__name__}: {error}"}
    finally:
        stage.redis.stop()


def _measured(stage: Stage, world: World, clients: int, duration_s: int) -> Run:
    with serving(stage, world, OURS) as (server, database), beside(stage, database) as others:
        wait(_pay_in(stage.settings(database)))
        before = wait(_packets(stage, database))
        meter = Meter(trees(stage, server, others))
        load = wrk.run(server.base_url, _lua(stage.token), connections=clients, duration_s=duration_s)
        cpu_s = meter.stop(wrk=load.cpu_s)
        sent = wait(_packets(stage, database)) - before
    if problems := load.problems():
        raise BooksWrongError("; ".join(problems))
    if not load.requests <= sent <= load.requests + clients:
        raise BooksWrongError(f"{load.requests:,} sendings were answered, but the ledger has {sent:,}")
    return {
        "answers_per_s": load.per_s,
        "cpu_us_per_answer": {name: used_s / load.requests * 1e6 for name, used_s in cpu_s.items()},
        "cpu_share": {name: used_s / load.duration_s for name, used_s in cpu_s.items()},
        "closed_loop_ms": {"p50": load.p50_ms, "p99": load.p99_ms, "max": load.max_ms},
    }


def _sender(number: int) -> str:
    return f"sender{number:04d}"


async def _pay_in(settings: Settings) -> None:
    """Give every sender enough."""
    async with Engine.open(settings) as engine:
        paid = [
            engine.wallets.deposit(_sender(number), _PURSE_FEN, idempotency_key=uuid4().hex, request_hash=b"purse")
            for number in range(_SENDERS)
        ]
        await asyncio.gather(*paid)


async def _packets(stage: Stage, database: str) -> int:
    connection = await asyncpg.connect(stage.database_url(database))
    try:
        count: int = await connection.fetchval("SELECT count(*) FROM packets")
    finally:
        await connection.close()
    return count


def _lua(token: str) -> str:
    body = f'{{"total_fen":{_TOTAL_FEN},"count":{_SHARES},"split":"lucky"}}'
    return _LUA.format(token=token, body=body, length=len(body), senders=_SENDERS, run=uuid4().hex)


_LUA = """
local number = 0
local head = "POST /v1/packets HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nAuthorization: Bearer {token}\\r\\n" ..
  "Content-Type: application/json\\r\\nContent-Length: {length}\\r\\n"
function request()
  number = number + 1
  return head .. string.format('X-User-Id: sender%04d\\r\\nIdempotency-Key: {run}-%d\\r\\n\\r\\n{body}',
    number % {senders}, number)
end
"""
