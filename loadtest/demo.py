"""`make demo`: a storm over real HTTP on servers of its own, with processes killed in the middle, and the books after.

Exits 0 only if every amount a client was told is in the ledger, once, and the audit is clean.
"""

import asyncio
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from engine import tokens
from engine.settings import Settings
from loadtest import demo_report
from loadtest.running import NotStartedError, Running, running
from loadtest.storm import Answers, Client, ContradictionError, storm

SENDERS, USERS, PACKETS, TAPS, HANDS = 12, 600, 64, 24_000, 96
TIMED_SHARES, TIMED_TTL_S = 200, 4
_SETTLE_S_MAX = 30.0
_LAG = re.compile(r"^hongbao_persister_lag_(events|seconds)\{.*\} (\S+)$", re.MULTILINE)


@dataclass(slots=True)
class Story:
    """What happened, for the report. ``packets``: id -> the terms it was sent with."""

    answers: Answers = field(default_factory=Answers)
    packets: dict[str, dict[str, object]] = field(default_factory=dict)
    timed_packet: str = ""
    storm_s: float = 0.0
    settle_s: float = 0.0
    lag_events_max: float = 0.0
    lag_s_max: float = 0.0
    killed: list[str] = field(default_factory=list)
    views: dict[str, dict[str, object]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def main() -> int:
    """Play it; gives the exit code."""
    console = Console()
    started_s = time.monotonic()
    try:
        console.print("Starting Redis, Postgres, the persister, the sweeper and two API processes ...")
        with running(workers=2) as engine:
            console.print(f"Ready on {engine.base_url} after {time.monotonic() - started_s:.1f} s.")
            story = asyncio.run(_play(engine, console))
            findings = _audit(engine)
    except NotStartedError as error:
        console.print(f"The engine did not start: {error}", markup=False)
        return 1
    except ContradictionError as error:
        console.print(f"FAILED: {error}", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("Stopped; nothing is left running.")
        return 130
    demo_report.show(console, story, findings)
    console.print(f"The whole took {time.monotonic() - started_s:.0f} s.")
    return 0 if not story.problems and all(finding["holds"] for finding in findings) else 1


async def _play(engine: Running, console: Console) -> Story:
    story, chance = Story(), random.Random(2016)
    users = [f"user-{number:03d}" for number in range(USERS)]
    senders = [f"sender-{number:02d}" for number in range(SENDERS)]
    async with Client(engine.base_url, _tokens(engine, users + senders), HANDS) as client:
        with _progress(console) as progress:
            await _send(client, senders, story, chance, progress)
            watching = asyncio.create_task(_watch_lag(client, story))
            await _storm(client, engine, users, story, chance=chance, progress=progress)
            await _settle(client, senders[0], story, progress)
            watching.cancel()
            await _compare(client, users, senders[0], story, progress)
    return story


def _tokens(engine: Running, users: list[str]) -> dict[str, str]:
    secret = tokens.load_secret(Settings.load(data_dir=engine.data_dir))
    issued = {user: tokens.issue(secret, user, ("send", "claim"), 3_600) for user in users}
    return {**issued, "admin": tokens.issue(secret, "admin", ("admin",), 3_600)}


async def _send(client: Client, senders: list[str], story: Story, chance: random.Random, progress: Progress) -> None:
    """Fill the senders' wallets and send packets of both kinds, one large, one that will run out of time."""
    task = progress.add_task("deposits and packets", total=len(senders) + PACKETS)
    for sender in senders:
        await client.post(f"/v1/wallets/{sender}/deposits", "admin", {"amount_fen": 10_000_000}, f"fund-{sender}")
        progress.advance(task)
    for number in range(PACKETS):
        count = chance.randint(8, 100)
        body: dict[str, object] = {"count": count, "split": "lucky", "total_fen": count * chance.randint(20, 900)}
        if number % 3 == 0:
            body["split"] = "equal"
        if number == 1:
            body |= {"count": 2_000, "total_fen": 888_888, "greeting": "红包雨"}
        if number == PACKETS - 1:
            body |= {"count": TIMED_SHARES, "total_fen": 60_000, "split": "lucky", "ttl_s": TIMED_TTL_S}
        sent = await client.post("/v1/packets", senders[number % len(senders)], body, f"packet-{number}")
        story.packets[str(sent["packet_id"])] = body
        progress.advance(task)
    story.timed_packet = str(sent["packet_id"])


async def _storm(
    client: Client, engine: Running, users: list[str], story: Story, *, chance: random.Random, progress: Progress
) -> None:
    """Tap, and kill on the way: the persister halfway, one of the two API processes a little later."""
    task = progress.add_task(f"{USERS} users tapping", total=TAPS)
    ids = [packet_id for packet_id in story.packets if packet_id != story.timed_packet]
    taps = [(chance.choice(ids), chance.choice(users)) for _ in range(TAPS * 3 // 4)]
    taps += chance.choices(taps, k=TAPS - len(taps) - 50)  # impatient hands tap again
    chance.shuffle(taps)
    # The timed packet is tapped first, by too few to empty it.
    taps = [(story.timed_packet, user) for user in users[:50]] + taps
    kills = {TAPS // 2: "persist", TAPS * 5 // 8: "serve-1"}
    done = 0

    def tapped() -> None:
        nonlocal done
        done += 1
        progress.advance(task)
        if done in kills:
            os.kill(engine.pid(kills[done]), signal.SIGKILL)
            story.killed.append(kills[done])

    story.storm_s = await storm(client, taps, hands=HANDS, answers=story.answers, tapped=tapped)


async def _watch_lag(client: Client, story: Story) -> None:
    while True:
        for kind, value in _LAG.findall(await client.text("/metrics")):
            if kind == "events":
                story.lag_events_max = max(story.lag_events_max, float(value))
            else:
                story.lag_s_max = max(story.lag_s_max, float(value))
        await asyncio.sleep(0.2)


async def _settle(client: Client, reader: str, story: Story, progress: Progress) -> None:
    """Wait until the persister has everything and the timed packet has gone back."""
    task = progress.add_task("settling", total=len(story.packets))
    started_s = time.perf_counter()
    while time.perf_counter() - started_s < _SETTLE_S_MAX:
        for packet_id in story.packets:
            story.views[packet_id] = await client.get(f"/v1/packets/{packet_id}", reader)
        ended = [view for view in story.views.values() if view["state"] != "open"]
        settled = sum(view["settled_at_ms"] is not None for view in ended)
        progress.update(task, completed=settled, total=len(ended))
        if settled == len(ended) and story.views[story.timed_packet]["state"] == "expired":
            break
        await asyncio.sleep(0.05)
    else:
        story.problems.append(f"not everything was settled within {_SETTLE_S_MAX:.0f} s")
    story.settle_s = time.perf_counter() - started_s


async def _compare(client: Client, users: list[str], reader: str, story: Story, progress: Progress) -> None:
    """Hold what the clients were told against packets' claims and users' wallets."""
    task = progress.add_task("comparing with what clients were told", total=len(story.packets) + len(users))
    listed: dict[tuple[str, str], int] = {}
    for packet_id in story.packets:
        after = ""
        while True:
            page = await client.get(f"/v1/packets/{packet_id}/claims?limit=1000{after}", reader)
            rows = page["claims"]
            assert isinstance(rows, list)
            listed |= {(packet_id, row["user_id"]): row["amount_fen"] for row in rows}
            if page["next"] is None:
                break
            after = f"&after={page['next']}"
        progress.advance(task)
    if listed != story.answers.amounts:
        differing = dict(listed.items() ^ story.answers.amounts.items())
        story.problems.append(f"{len(differing)} shares differ between the clients' answers and the claims listed")
    for user in users:
        told_fen = sum(amount for (_, who), amount in story.answers.amounts.items() if who == user)
        wallet = await client.get(f"/v1/wallets/{user}", user)
        if wallet["balance_fen"] != told_fen:
            story.problems.append(f"{user} was told {told_fen} fen and holds {wallet['balance_fen']}")
        progress.advance(task)


def _audit(engine: Running) -> list[dict[str, object]]:
    words = [sys.executable, "-m", "engine.cli", "audit", "--json", "--data-dir", str(engine.data_dir)]
    audited = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    findings: list[dict[str, object]] = orjson.loads(audited.stdout)
    return findings


@contextlib.contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    columns = (TextColumn("{task.description:<38}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield progress


if __name__ == "__main__":
    sys.exit(main())
