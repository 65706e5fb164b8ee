"""`make load`: locust plays the festival's eve on a running server. Then the books are audited.

Exits 0 only if no answer was a failure, no two contradicted each other and, if the installation is on this machine,
the audit is clean.
"""

import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Annotated
from urllib.parse import urlsplit

import orjson
import typer
from rich.console import Console

from engine.embedded import servers
from engine.errors import HongbaoError, OperatorError
from engine.observability.terminal import print_anything
from engine.settings import Settings
from loadtest import cpu
from loadtest.load import locust_process
from loadtest.load import report as load_report
from loadtest.load.identities import Given, Identities
from loadtest.load.locust_process import Plan
from loadtest.load.shapes import Eve
from loadtest.load.simple_client import SimpleClient
from loadtest.load.targets import checked_url, is_this_machine

_TABLE_WIDTH = 80
"""In a narrower terminal a table's lines wrap, because a table that fits would lose text."""


def main(  # noqa: PLR0917  # typer gives them by name
    url: Annotated[str, typer.Option(help="The server, which must be running.")] = "http://127.0.0.1:8080",
    data_dir: Annotated[Path | None, typer.Option(help="Its data directory, if it is on this machine.")] = None,
    users: Annotated[int, typer.Option(help="Users at midnight.")] = 200,
    eve_s: Annotated[float, typer.Option(help="Seconds the evening lasts.")] = 90.0,
    processes: Annotated[int, typer.Option(min=1, help="Locust's worker processes.")] = os.cpu_count() or 1,
    report: Annotated[Path, typer.Option(help="Folder for the reports. Each run makes a new one in it.")] = Path(
        "load-report"
    ),
    act_token: Annotated[str | None, typer.Option(help="A backend's token, which speaks for all users.")] = None,
    admin_token: Annotated[str | None, typer.Option(help="A token that may deposit and set profiles.")] = None,
    funded_senders: Annotated[str, typer.Option(help="Users whose wallets hold money, with commas.")] = "",
    allow_remote: Annotated[str | None, typer.Option(help="The only other host that load may go to.")] = None,
) -> None:
    """Run the festival's eve on a running server, write the report, audit the books."""
    print_anything()
    console = Console(highlight=False, soft_wrap=True)
    console.width = max(console.width, _TABLE_WIDTH)
    funded = tuple(sender for sender in funded_senders.split(",") if sender)
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        plan = Plan(
            url=checked_url(url, allow_remote),
            eve=Eve(eve_s, users),
            processes=processes,
            report_dir=report / datetime.now().strftime("%Y%m%d-%H%M%S"),  # noqa: DTZ005  # the operator's own clock
            given=Given(data_dir=data_dir, act_token=act_token, admin_token=admin_token, funded_senders=funded),
            allow_remote=allow_remote,
        )
        code = _run(plan, console)
    except (HongbaoError, ValueError) as error:
        console.print(f"load: {error}", markup=False)
        code = 1
    except KeyboardInterrupt:
        console.print("Stopped; nothing is left running.")
        code = 130
    raise typer.Exit(code)


def _run(plan: Plan, console: Console) -> int:
    client = SimpleClient(plan.url)
    client.check_ready()  # before tokens: if no server has ever run here, there is no secret to sign them
    identities = Identities(plan.given)
    client.check_identities(identities, "load-probe")
    _make(plan.report_dir)
    run_dir = Settings.load(data_dir=plan.given.data_dir).data_dir / "run"
    before, cpu_before = client.claims_by_outcome(), cpu.of_installation(run_dir)
    locust_code, locust_cpu_s = locust_process.run(plan, console)
    if locust_code and not load_report.has_answers(plan.report_dir):
        raise OperatorError(load_report.why_nothing(plan.report_dir))
    claims = Counter(client.claims_by_outcome())
    claims.subtract(before)
    console.print(load_report.requests_table(plan.report_dir))
    console.print(load_report.claims_table(claims))
    engine_cpu_s = sum(cpu.of_installation(run_dir).values()) - sum(cpu_before.values())
    console.print(load_report.cpu_line(locust_cpu_s, engine_cpu_s if cpu_before else None))
    if locust_code:
        for line in load_report.complaints(plan.report_dir):
            console.print(f"FAILED {line}", markup=False)
    is_clean = _audit(plan, identities, console)
    console.print(f"The report: {plan.report_dir / 'report.html'}")
    return 0 if locust_code == 0 and is_clean else 1


def _make(report_dir: Path) -> None:
    try:
        report_dir.mkdir(parents=True)
    except OSError as error:
        raise OperatorError(f"The folder {report_dir} cannot be made: {error.strerror}.") from None


def _audit(plan: Plan, identities: Identities, console: Console) -> bool:
    """Audit the installation if it is on this machine. Returns whether nothing is wrong."""
    settings = Settings.load(data_dir=plan.given.data_dir)
    is_ours = identities.made_here or plan.given.data_dir is not None
    has_servers = servers.is_running(settings.data_dir) or None not in (settings.redis_url, settings.database_url)
    if not (is_this_machine(urlsplit(plan.url).hostname or "") and is_ours and has_servers):
        console.print("Not audited: its servers cannot be reached from here; run `hongbao audit` where they can.")
        return True
    words = [sys.executable, "-m", "engine", "audit", "--json", "--data-dir", str(settings.data_dir)]
    audited = subprocess.run(words, capture_output=True, encoding="utf-8", timeout=600, check=False)
    if not audited.stdout:
        raise OperatorError(f"The audit did not run: {audited.stderr.strip()}")
    findings = orjson.loads(audited.stdout)
    for line in load_report.audit_lines(findings):
        console.print(line, markup=False)
    return all(finding["holds"] for finding in findings)


def _as_interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    typer.run(main)
