"""How much is measured: the whole report, or a quick look. It has only seconds and counts."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``costly_rounds``: rounds of workloads whose runs take long to set up or to audit (C to F, the open loop).

    ``packets_*`` must last for the fastest server: a walk that runs out of winners makes its run void. With fewer
    packets, a run's books are audited sooner. Those in ``_slow`` are for workloads in which a claim costs more.
    ``persisted_small_claims``: of F with the packets of a group; none if 0. ``aof_rounds``: also for the ack modes.
    ``single_rounds``: of D with one claimant per packet, which has no goal.
    ``bare_rounds`` and ``everything_on_rounds``: of A, B and the open loop in these variants."""

    name: str
    rounds: int
    costly_rounds: int
    seconds: int
    warm_up_s: int
    batch_requests: int
    durable_seconds: int
    aof_rounds: int
    open_loop_seconds: int
    packets_of_100: int
    packets_of_100_slow: int
    packets_of_10: int
    hot_shares: int
    crowd_claims: int
    crowd_rounds: tuple[int, int]
    fairness_packets: int
    persisted_claims: int
    persisted_small_claims: int
    limited_people: int
    split_rounds: int
    scattered_rounds: int
    bare_rounds: int
    everything_on_rounds: int
    single_rounds: int
    profiled: bool

    def with_rounds(self, rounds: int) -> "Plan":
        """The same with another number of rounds everywhere."""
        return replace(
            self,
            rounds=rounds,
            costly_rounds=rounds,
            scattered_rounds=rounds,
            crowd_rounds=(rounds, 0),
            aof_rounds=min(self.aof_rounds, rounds),
            bare_rounds=min(self.bare_rounds, rounds),
            everything_on_rounds=min(self.everything_on_rounds, rounds),
            single_rounds=min(self.single_rounds, rounds),
        )


WHOLE = Plan(
    name="whole",
    rounds=5,
    costly_rounds=5,
    seconds=3,
    warm_up_s=1,
    batch_requests=400,
    durable_seconds=5,
    aof_rounds=2,
    open_loop_seconds=5,
    packets_of_100=4_800,
    packets_of_100_slow=2_000,
    packets_of_10=2_400,
    hot_shares=1_000_000,
    crowd_claims=1_100_000,
    crowd_rounds=(3, 1),
    fairness_packets=1_000_000,
    persisted_claims=400_000,
    persisted_small_claims=120_000,
    limited_people=100_000,
    split_rounds=9,
    scattered_rounds=3,
    bare_rounds=3,
    everything_on_rounds=3,
    single_rounds=2,
    profiled=True,
)
QUICK = Plan(
    name="quick",
    rounds=2,
    costly_rounds=1,
    seconds=1,
    warm_up_s=1,
    batch_requests=300,
    durable_seconds=2,
    aof_rounds=0,
    open_loop_seconds=2,
    packets_of_100=1_200,
    packets_of_100_slow=1_600,
    packets_of_10=1_200,
    hot_shares=250_000,
    crowd_claims=600_000,
    crowd_rounds=(0, 0),
    fairness_packets=100_000,
    persisted_claims=200_000,
    persisted_small_claims=0,
    limited_people=20_000,
    split_rounds=3,
    scattered_rounds=1,
    bare_rounds=0,
    everything_on_rounds=0,
    single_rounds=0,
    profiled=False,
)
