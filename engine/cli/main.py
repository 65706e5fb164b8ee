"""The command ``hongbao``. Only this module and settings.py read the environment."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import orjson
import structlog
import typer

from engine.cli import (
    analyse,
    audit,
    campaigns,
    console,
    coupons,
    data,
    doctor,
    fundraisers,
    lanes,
    link,
    plan,
    quarantine,
    reconcile,
    recover,
    verify,
    wechatpay,
)
from engine.cli.common import DataDirOption, JsonOption
from engine.cli.common import run as _run
from engine.cli.common import show as _print
from engine.errors import HongbaoError, OperatorError
from engine.observability import logs
from engine.observability.terminal import print_anything
from engine.settings import Settings, ignored
from engine.supervision.hangup import Hangup, outlive_hangups
from engine.supervision.report import Report

app = typer.Typer(
    help="Hongbao, the red packet claim engine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

PortOption = Annotated[int | None, typer.Option("--port", min=0, max=65_535, help="0: any free one. Default: 8080.")]
WorkersOption = Annotated[int | None, typer.Option("--workers", min=1, max=256, help="API processes. Default: 1.")]
NodesOption = Annotated[
    int | None,
    typer.Option("--redis-nodes", min=1, max=9, help="Masters of the embedded Redis Cluster. 1: no cluster."),
]
ReplicasOption = Annotated[int | None, typer.Option("--replicas", min=0, max=3, help="Replicas of each master.")]
SandboxOption = Annotated[
    bool, typer.Option("--wechatpay-sandbox", help="Make a merchant of WeChat Pay's calls with money; print its keys.")
]
ShareOption = Annotated[str, typer.Option("--share", help="Of several persisters, 1/3 follows every third lane.")]
ReportOption = Annotated[Path | None, typer.Option("--report", hidden=True, help="The file that `up` reads.")]


@app.command()
def up(
    *,
    port: PortOption = None,
    data_dir: DataDirOption = None,
    workers: WorkersOption = None,
    redis_nodes: NodesOption = None,
    replicas: ReplicasOption = None,
    wechatpay_sandbox: SandboxOption = False,
) -> None:
    """Run everything: servers (unless HONGBAO_REDIS_URL and HONGBAO_DATABASE_URL name others) and all processes."""
    for number in (signal.SIGINT, signal.SIGTERM):  # until the supervisor handles them
        signal.signal(number, _exit_with(0))
    outlive_hangups()
    from engine.running import libraries

    libraries.check()
    from engine.running.up import up as run_up

    logs.configure("up")
    settings = Settings.load(port=port, data_dir=data_dir, workers=workers)
    _warn_of_ignored(settings, "up")
    work = run_up(
        settings,
        os.environ,
        lambda url: _print(f"ready {url}"),
        tell=_print,
        redis_nodes=redis_nodes,
        replicas=replicas,
        tell_sandbox=wechatpay.tell_sandbox if wechatpay_sandbox else None,
    )
    _run(work)


@app.command()
def serve(port: PortOption = None, data_dir: DataDirOption = None, report_path: ReportOption = None) -> None:
    """Run one API process. Several may share the port."""
    report = Report(report_path)
    with report.complaining():
        settings = _settings("serve", report_path, port=port, data_dir=data_dir)
        from api.server import serve as run_server

        _run(run_server(settings, report.ready))


@app.command()
def persist(share: ShareOption = "1/1", data_dir: DataDirOption = None, report_path: ReportOption = None) -> None:
    """Run the persister, which applies the lanes' events to the ledger."""
    report = Report(report_path)
    with report.complaining():
        settings = _settings("persist", report_path, data_dir=data_dir)
        from engine.running.processes import Share, run_persister

        try:
            own = Share.parse(share)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--share") from None
        _run(_until_signalled(lambda stop: run_persister(settings, stop, report.ready, own)))


@app.command()
def sweep(data_dir: DataDirOption = None, report_path: ReportOption = None) -> None:
    """Run the sweeper: it closes expired packets, opens paid ones, pays out withdrawals, and more."""
    report = Report(report_path)
    with report.complaining():
        settings = _settings("sweep", report_path, data_dir=data_dir)
        from engine.running.processes import run_sweeper

        _run(_until_signalled(lambda stop: run_sweeper(settings, stop, report.ready)))


@app.command()
def migrate(data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Bring the database to this release's schema (`up` does this automatically)."""
    from engine.ledger import schema
    from engine.running import reach

    logs.configure("migrate")
    with reach.reachable(Settings.load(data_dir=data_dir)) as settings:
        applied = _run(schema.migrate(settings.database_url or ""))
    if as_json:
        _print(orjson.dumps({"applied": applied}).decode())
    else:
        _print(f"applied {', '.join(map(str, applied))}" if applied else "nothing to apply")


@app.command()
def token(
    *,
    user: Annotated[str, typer.Option("--user", help="Who the token speaks for.")],
    scope: Annotated[
        list[str] | None, typer.Option("--scope", help="send, claim, act, admin; may be repeated.")
    ] = None,
    ttl_s: Annotated[int, typer.Option("--ttl-s", min=1, help="Seconds until it expires.")] = 86_400,
    key_id: Annotated[str | None, typer.Option("--key-id", help="Which secret. Default: the one that signs.")] = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a bearer token. A secret from the environment or, without one, from the data directory signs it."""
    from engine.access import tokens

    logs.configure("token")
    scopes = scope if scope is not None else ["send", "claim"]
    issued = tokens.issue_by(Settings.load(data_dir=data_dir), user, scopes, ttl_s, key_id)
    _print(orjson.dumps({"token": issued, "user": user, "scopes": scopes}).decode() if as_json else issued)


@app.command()
def rotate_secret(data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Make a new token secret in the data directory, and print which ones are in force. Then restart the API."""
    from engine.access import keyring

    logs.configure("rotate-secret")
    settings = Settings.load(data_dir=data_dir)
    keyring.add(settings)
    in_force = [secret.key_id for secret in keyring.load(settings).secrets]
    if as_json:
        _print(orjson.dumps({"signs": in_force[0], "in_force": in_force}).decode())
        return
    _print(f"signs     {in_force[0]}")
    for key_id in in_force[1:]:
        _print(f"verifies  {key_id or '(tokens without a key id)'}")
    _print("Restart the API processes before you issue tokens: they read the secrets when they start.")


app.command()(analyse.analyse)
app.command()(audit.audit)
app.command()(doctor.doctor)
app.command()(link.link)
app.command()(plan.plan)
app.command()(reconcile.reconcile)
app.command()(recover.recover)
app.command()(verify.verify)
app.add_typer(campaigns.app, name="campaigns")
app.add_typer(fundraisers.app, name="fundraisers")
app.add_typer(console.app, name="console")
app.add_typer(coupons.app, name="coupons")
app.add_typer(lanes.app, name="lanes")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(data.app, name="data")
app.add_typer(wechatpay.app, name="wechatpay")


def main() -> None:
    """Run the command. A HongbaoError is printed as one sentence on stderr, with exit code 1, or its own."""
    print_anything()
    signal.signal(signal.SIGTERM, _exit_with(128 + signal.SIGTERM))  # first stop what the command has started
    try:
        app(prog_name="hongbao")
    except HongbaoError as error:
        print(f"hongbao: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code if isinstance(error, OperatorError) else 1)


def _settings(process_name: str, report_path: Path | None, **overrides: object) -> Settings:
    """Prepare a process: its logs, and the servers from the settings or of a running `up`."""
    outlive_hangups()
    from engine.running import libraries, reach

    libraries.check()
    logs.configure(process_name)
    settings = Settings.load(**overrides)
    if report_path is None:  # otherwise it is a child of `up`, and `up` has logged this
        _warn_of_ignored(settings, process_name)
    return reach.running(settings)


def _warn_of_ignored(settings: Settings, command: str) -> None:
    for sentence in ignored(settings, command):
        structlog.get_logger().warning("a setting is ignored", why=sentence)


def _exit_with(code: int) -> Callable[[int, FrameType | None], NoReturn]:
    """A signal handler that ends the process as if the running code had called ``sys.exit``."""

    def handler(_number: int, _frame: FrameType | None) -> NoReturn:
        sys.exit(code)

    return handler


async def _until_signalled(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run ``work`` with an event that SIGINT and SIGTERM set. SIGHUP sets it only if the terminal has closed."""
    stop, hangup = asyncio.Event(), Hangup()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: stop.set() if hangup.is_of_the_terminal() else None)
    await work(stop)
