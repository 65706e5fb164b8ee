"""What a claim costs if other packets lie in Redis: the same crowd beside ten thousand, a million and ten million."""

from dataclasses import replace

from benchmarks.rig.bench import Bench
from benchmarks.rig.runs import Trial, run
from benchmarks.rig.servers import OURS
from benchmarks.rig.stage import Stage
from benchmarks.rig.walks import Walk
from benchmarks.rig.world import World
from engine.lanes import keys

OTHERS = (10_000, 1_000_000, 10_000_000)
CONNECTIONS = 256
_ROUNDS = 3
_PER_CALL = 20_000
# Open packets of ten shares with the keys and fields of open.lua. Redis makes them itself: there are too many to send.
_MAKE = """
local due, packet, shares = KEYS[1], KEYS[2], KEYS[3]
for number = tonumber(ARGV[1]), tonumber(ARGV[2]) - 1 do
  local id = string.format('%013d', number)
  redis.call('HSET', packet .. id, 'state', 'open', 'count', 10, 'total_fen', 10000, 'expires_at_ms', ARGV[3],
    'remaining_count', 10, 'remaining_fen', 10000, 'luckiest_share', '3:2210')
  redis.call('RPUSH', shares .. id, '0:1000', '1:1000', '2:1000', '3:2210', '4:790', '5:1000', '6:1000', '7:500',
    '8:500', '9:1000')
  redis.call('ZADD', due, ARGV[3], '100009' .. id)
end
"""
_FAR_FUTURE_MS = 4_000_000_000_000
_OTHER = "100009"
"""How the others' numbers begin, in lane 0; 13 digits follow."""


def crowding(bench: Bench) -> None:
    """Measure only our server: the peers have another layout."""
    plan = bench.plan
    world = bench.world("hundreds", packets=plan.packets_of_100, shares=100)
    made = {count: _beside(bench.stage, world, count) for count in OTHERS}
    for number in range(1, min(_ROUNDS, plan.rounds) + 1):
        for count in OTHERS if number % 2 else OTHERS[::-1]:
            trial = Trial(
                workload=workload(count),
                walk=Walk(packets=world.packets, hands=100),
                connections=CONNECTIONS,
                duration_s=plan.seconds,
                warm_up_s=plan.warm_up_s,
            )
            bench.keep(run(bench.stage, made[count], OURS, trial, number))


def workload(count: int) -> str:
    """The name of the runs beside so many packets."""
    return f"beside {count}"


def _beside(stage: Stage, world: World, count: int) -> World:
    """The world with so many other packets in its snapshot. The ledger does not know them: nobody asks for them."""
    stage.redis.start(world.snapshot)
    names = (keys.due(0), keys.packet(_OTHER + "0" * 13)[:-13], keys.shares(_OTHER + "0" * 13)[:-13])
    with stage.redis.client() as client:
        for first in range(0, count, _PER_CALL):
            client.eval(_MAKE, len(names), *names, first, min(first + _PER_CALL, count), _FAR_FUTURE_MS)
    snapshot = stage.folder / f"beside-{count}.rdb"
    stage.redis.save(snapshot)
    stage.redis.stop()
    return replace(world, snapshot=snapshot)
