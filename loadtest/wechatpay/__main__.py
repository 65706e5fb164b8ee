"""``python -m loadtest.wechatpay``: `sendredpack` from 64 connections to servers of its own.

It prints calls per second, how long they took, and the CPU time of each process per call. Exits 0 only if every call
was answered with success, every order has its packet, and the audit is clean. Limits are counted as ever, but are out
of reach.
"""

import argparse
import os
import secrets
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson
import uvloop
from rich.console import Console

from engine.ledger.database import database_pool
from engine.observability.terminal import print_anything
from engine.running import reach
from engine.settings import Settings
from engine.wechatpay.sandbox import SandboxMerchant, make_merchant
from loadtest import cpu
from loadtest.running import NotStartedError, Running, running
from loadtest.steps import Steps
from loadtest.wechatpay.client import Client, Told

OUT_OF_REACH = {
    "HONGBAO_WECHATPAY_SENDS_A_MINUTE_MAX": "100000000",
    "HONGBAO_WECHATPAY_MERCHANT_DAY_FEN_MAX": "100000000000",
}
_AUDIT_S_MAX = 900
_RUN = "loadtest"
_WARM_UP = "warmup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run. ``cpu_s``: of each part of the installation, and of this process ("client"), while it was measured."""

    told: Told
    cpu_s: dict[str, float]


def main(words: Sequence[str]) -> int:
    """Measure, and return the exit code."""
    print_anything()
    parser = argparse.ArgumentParser(prog="python -m loadtest.wechatpay", description="How fast sendredpack is.")
    parser.add_argument("--connections", type=int, default=64, help="how many call at once (default: 64)")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long is measured (default: 20)")
    parser.add_argument("--warm-up-seconds", type=float, default=3.0, help="how long before that (default: 3)")
    parser.add_argument("--workers", type=int, default=1, help="API processes (default: 1)")
    given = parser.parse_args(words)
    console = Console()
    os.environ.setdefault("HONGBAO_WECHATPAY_KEYS", f"loadtest:{secrets.token_hex(32)}")
    for name, value in OUT_OF_REACH.items():
        os.environ.setdefault(name, value)
    try:
        with running(workers=given.workers) as engine, Steps(console) as steps:
            settings = reach.running(Settings.load(data_dir=engine.data_dir))
            measured = uvloop.run(_measure(engine, settings, given, steps))
            problems = [*_refused(measured.told), *uvloop.run(_unpaid(settings, measured.told)), *_audit(engine)]
    except NotStartedError as error:
        console.print(f"The engine did not start: {error}", markup=False, highlight=False)
        return 1
    show(console, measured, given.connections)
    for problem in problems:
        console.print(f"WRONG {problem}", markup=False, highlight=False, soft_wrap=True)
    console.print("FAILED" if problems else "every order has its packet, and the audit is clean", highlight=False)
    return 1 if problems else 0


async def _measure(engine: Running, settings: Settings, given: argparse.Namespace, steps: Steps) -> Measured:
    merchant = await _merchant(settings)
    parts = urlsplit(engine.base_url)
    host, port = parts.hostname or "", parts.port or 80
    if given.warm_up_seconds:
        await Client(host, port, merchant, _WARM_UP).send(given.connections, given.warm_up_seconds, lambda _: None)
    run_dir = engine.data_dir / "run"
    with steps.step("packets sent", 0) as step:
        before, own_s = cpu.of_parts(run_dir), sum(os.times()[:2])
        told = await Client(host, port, merchant, _RUN).send(
            given.connections, given.seconds, lambda done: step.show(done, done)
        )
        after = cpu.of_parts(run_dir)
        step.show(len(told.took_s), told.sent)
    cpu_s = {name: seconds - before.get(name, 0.0) for name, seconds in after.items()}
    return Measured(told=told, cpu_s={"client": sum(os.times()[:2]) - own_s, **cpu_s})


async def _merchant(settings: Settings) -> SandboxMerchant:
    async with await database_pool(settings.database_url or "", connections_max=2, timeout_s=60.0) as pool:
        return await make_merchant(pool, settings)


async def _unpaid(settings: Settings, told: Told) -> list[str]:
    """What the ledger says about the orders of this run."""
    query = (
        "SELECT count(*) AS orders,"
        " count(*) FILTER (WHERE wechatpay_orders.state = 'paid' AND total_fen = amount_fen) AS paid"
        " FROM wechatpay_orders LEFT JOIN packets USING (packet_id) WHERE openid LIKE $1"
    )
    async with await database_pool(settings.database_url or "", connections_max=1, timeout_s=60.0) as pool:
        (row,) = await pool.fetch(query, f"o{_RUN}%")
    if (row["orders"], row["paid"]) == (told.sent, told.sent):
        return []
    return [f"{told.sent} were sent, {row['orders']} orders are written, {row['paid']} have their packet"]


def _refused(told: Told) -> list[str]:
    return [f"{count} calls were answered {code}" for code, count in told.codes.items() if code != "SUCCESS"]


def _audit(engine: Running) -> list[str]:
    """What `hongbao audit` finds. If it cannot run, that is a problem too."""
    words = [sys.executable, "-m", "engine", "audit", "--json", "--data-dir", str(engine.data_dir)]
    audited = subprocess.run(words, capture_output=True, encoding="utf-8", timeout=_AUDIT_S_MAX, check=False)
    try:
        findings = orjson.loads(audited.stdout)
    except orjson.JSONDecodeError:
        return [f"the audit did not run: {audited.stderr.strip()}"]
    return [problem for finding in findings for problem in finding["problems"]]


def show(console: Console, measured: Measured, connections: int) -> None:
    """Print the figures."""
    told, answers = measured.told, len(measured.told.took_s)
    took_s = sorted(told.took_s) or [0.0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    p50_s, p99_s = (took_s[int(part * (len(took_s) - 1))] for part in (0.5, 0.99))
    line = (
        f"{answers / max(told.seconds, 0.001):,.0f} sendredpack per second from {connections} connections "
        f"on {cores} cores: p50 {p50_s * 1000:.0f} ms, p99 {p99_s * 1000:.0f} ms"
    )
    console.print(line, highlight=False, soft_wrap=True)
    each_ms = {name: seconds * 1000 / max(answers, 1) for name, seconds in sorted(measured.cpu_s.items())}
    parts = ", ".join(f"{name} {ms:.2f}" for name, ms in each_ms.items())
    console.print(f"CPU ms per call: {sum(each_ms.values()):.2f} ({parts})", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
