"""A ledger as the engine leaves it, written at once: packets with their claims and ends, over some days, from a seed.

Shares are those of the split, and times are drawn. Only what `engine.analysis` reads is true to life.
"""

import hashlib
import random
from dataclasses import dataclass, field
from datetime import date, timedelta

from engine.calendar.china_time import begin_ms
from engine.calendar.occasions import occasions_of
from engine.ledger.database import Connection
from engine.packets.split import split
from engine.records import SplitKind

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
_BUSY = [1, 1, 1, 1, 1, 1, 2, 4, 6, 6, 7, 9, 10, 7, 6, 6, 7, 9, 14, 22, 30, 26, 14, 5]
_COUNTS = [5, 8, 10, 10, 20, 20, 30, 50, 66, 88, 100, 200, 500, 2_000]


@dataclass(slots=True)
class Scene:
    """Rows to write. Ids of wallets are from 1,000 on, in the order in which users appear."""

    seed: int = 1
    volume: int = 10
    asset: str | None = None
    wallets: dict[str, int] = field(default_factory=dict)
    packets: list[tuple[object, ...]] = field(default_factory=list)
    entries: list[tuple[object, ...]] = field(default_factory=list)
    first_wallet: int = 1_000
    campaigns: list[tuple[object, ...]] = field(default_factory=list)
    buckets: list[tuple[object, ...]] = field(default_factory=list)

    def wallet(self, user_id: str) -> int:
        return self.wallets.setdefault(user_id, self.first_wallet + len(self.wallets))

    def packet(
        self,
        sender: str,
        count: int,
        total_fen: int,
        sent_at_ms: int,
        claims: list[tuple[str, int]],
        *,
        ends_at_ms: int | None = None,
        kind: SplitKind = SplitKind.LUCKY,
        state: str | None = None,
        purpose: str = "packet",
        settles_after_ms: int | None = 40,
    ) -> int:
        """Add a packet with (claimant, time) in order. It ends with its last share, or expires at ``ends_at_ms``."""
        number = self.volume * 10**17 + (len(self.packets) + 1) + self.first_wallet * 10**6
        seed = hashlib.sha256(f"{self.seed} {number}".encode()).digest()
        amounts = split(kind, total_fen, count, 1, max(20_000, total_fen), seed)
        left = len(claims) < count
        state = state or ("expired" if left and ends_at_ms else "exhausted" if not left else "open")
        ended_ms = claims[-1][1] if state == "exhausted" else ends_at_ms if state in ("expired", "retracted") else None
        rest = count - len(claims), total_fen - int(sum(amounts[: len(claims)]))
        self.packets.append(
            (
                *(number, sender, kind.value, total_fen, count, 1, max(20_000, total_fen), "恭喜发财", [], seed, seed),
                *(sent_at_ms, sent_at_ms + DAY_MS, state, *(rest if ended_ms is not None else (None, None)), ended_ms),
                None if ended_ms is None or settles_after_ms is None else ended_ms + settles_after_ms,
                *(purpose, self.asset),
            )
        )
        for slot, (user_id, at_ms) in enumerate(claims):
            self.entries.append(("claim", number, self.wallet(user_id), int(amounts[slot]), at_ms, slot, slot + 1))
        if state == "expired" and rest[1]:
            self.entries.append(("refund", number, self.wallet(sender), rest[1], ended_ms, None, count + 1))
        return number

    def campaign(
        self, name: str, starts_at_ms: int, parts: list[tuple[int, int, list[tuple[str, int]], bool]], odds: int
    ) -> None:
        """Add a campaign of one wave. ``parts``: shares, total, claims, whether it is over."""
        number = len(self.campaigns) + 1
        self.campaigns.append((number, "mall", name, odds, starts_at_ms - HOUR_MS, starts_at_ms))
        for count, total_fen, claims, is_over in parts:
            packet = self.packet(
                *("mall", count, total_fen, starts_at_ms - HOUR_MS, claims),
                ends_at_ms=starts_at_ms + 60_000 if is_over else None,
                purpose="campaign",
            )
            self.buckets.append((number, packet, 1, 1, len(self.buckets)))

    async def write(self, connection: Connection) -> None:
        """Write everything."""
        kind = "wallet" if self.asset is None else "holding"
        await connection.copy_records_to_table(
            "accounts",
            records=[(number, kind, user, self.asset) for user, number in self.wallets.items()],
            columns=["account_id", "kind", "owner", "asset"],
        )
        await connection.copy_records_to_table(
            "packets",
            records=self.packets,
            columns=[
                *("packet_id", "sender", "split", "total_fen", "count", "min_fen", "max_fen", "greeting", "recipients"),
                *("seed", "commitment", "created_at_ms", "expires_at_ms", "state", "remaining_count", "remaining_fen"),
                *("ended_at_ms", "settled_at_ms", "purpose", "asset"),
            ],
        )
        await connection.copy_records_to_table(
            "transfers",
            records=sorted(self.entries, key=lambda entry: int(str(entry[4]))),
            columns=["kind", "from_account", "to_account", "amount_fen", "at_ms", "slot", "position"],
        )
        for number, owner, name, odds, made_ms, starts_ms in self.campaigns:
            await connection.execute(
                "INSERT INTO campaigns (campaign_id, owner, name, odds_millionths, seed, commitment, created_at_ms)"
                " OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $5, $6)",
                *(number, owner, name, odds, bytes(32), made_ms),
            )
            await connection.execute(
                "INSERT INTO campaign_waves (campaign_id, wave, starts_at_ms, ends_at_ms) VALUES ($1, 1, $2, $3)",
                *(number, starts_ms, int(str(starts_ms)) + 60_000),
            )
            await connection.execute(
                "INSERT INTO campaign_prizes (campaign_id, wave, prize, asset, split, total_fen, count)"
                " VALUES ($1, 1, 1, $2, 'lucky', 1, 1)",
                *(number, self.asset),
            )
        await connection.copy_records_to_table(
            "campaign_buckets",
            records=self.buckets,
            columns=["campaign_id", "packet_id", "wave", "prize", "bucket"],
        )


def lively(first: date, days: int, packets: int, *, users: int = 400, seed: int = 1, volume: int = 10) -> Scene:
    """Days in which people send and claim as they do: in the evening, more on festivals, a few much more than others.

    On the last day at 20:00 there is a storm of a large packet and forty small ones.
    """
    chance = random.Random(seed)
    scene = Scene(seed=seed, volume=volume)
    senders = [f"sender-{number:03d}" for number in range(40)]
    guests = [f"user-{number:04d}" for number in range(users)]
    weights = [1 / (place + 1) ** 0.8 for place in range(len(guests))]
    for place in range(days):
        day = first + timedelta(days=place)
        for _ in range(packets * (3 if occasions_of(day) else 1)):
            sent_ms = begin_ms(day) + chance.choices(range(24), _BUSY)[0] * HOUR_MS + chance.randrange(HOUR_MS)
            count = min(chance.choice(_COUNTS[:11]), users)
            sender = senders[min(int(chance.paretovariate(0.9)) - 1, len(senders) - 1)]
            crowd = _crowd(chance, guests, weights, count)
            _claimed(scene, chance, sender, count=count, sent_ms=sent_ms, crowd=crowd)
    storm_ms = begin_ms(first + timedelta(days=days - 1)) + 20 * HOUR_MS
    for number in range(40):
        count = min(chance.choice(_COUNTS[6:]), users)
        crowd = chance.sample(guests, min(len(guests), count))
        sent_ms = storm_ms + chance.randrange(180_000)
        scene.packet(senders[number % 7], count, count * 88, sent_ms, _taps(chance, crowd, sent_ms, 9_000))
    for number, (name, odds, taken) in enumerate((("春节红包雨", 800_000, 300), ("元宵抢红包", 1_000_000, 380))):
        starts_ms = storm_ms - (number + 1) * HOUR_MS
        crowd = chance.sample(guests, min(taken, users))
        halves = [crowd[: taken // 2], crowd[taken // 2 :]]
        scene.campaign(
            name, starts_ms, [(200, 17_600, _taps(chance, half, starts_ms, 4_000), True) for half in halves], odds
        )
    return scene


def _crowd(chance: random.Random, guests: list[str], weights: list[float], count: int) -> list[str]:
    picked = dict.fromkeys(chance.choices(guests, weights, k=3 * count))
    return list(picked)[: count if chance.random() < 0.8 else chance.randrange(count)]


def _taps(chance: random.Random, crowd: list[str], sent_ms: int, spread_ms: float) -> list[tuple[str, int]]:
    times = sorted(sent_ms + 20 + int(chance.expovariate(1 / spread_ms)) for _ in crowd)
    return list(zip(crowd, times, strict=True))


def _claimed(scene: Scene, chance: random.Random, sender: str, *, count: int, sent_ms: int, crowd: list[str]) -> None:
    claims = _taps(chance, crowd, sent_ms, chance.choice([8_000, 60_000, 900_000]))
    claims = [claim for claim in claims if claim[1] < sent_ms + DAY_MS]
    total_fen = count * chance.choice([66, 88, 188, 520])
    is_taken_back = not claims and chance.random() < 0.4
    scene.packet(
        sender,
        count,
        total_fen,
        sent_ms,
        claims,
        ends_at_ms=sent_ms + 120_000 if is_taken_back else sent_ms + DAY_MS,
        kind=SplitKind.LUCKY if chance.random() < 0.8 else SplitKind.EQUAL,
        state="retracted" if is_taken_back else None,
        settles_after_ms=int(chance.lognormvariate(3.2, 0.9)),
    )
