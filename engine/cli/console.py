"""`hongbao console`: runs the console; adds, lists, disables and resets operators."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import orjson
import typer

from engine.cli.common import DataDirOption, JsonOption, run, show
from engine.observability import logs
from engine.settings import Settings
from engine.supervision.hangup import outlive_hangups
from engine.supervision.report import Report

if TYPE_CHECKING:
    from engine.operators.accounts import Operators
    from engine.operators.log import OperatorLog

app = typer.Typer(help="The console for operators: run it; add, list, disable, reset operators.")
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The operator's name.")]
RoleOption = Annotated[str, typer.Option("--role", help="viewer, support, risk, finance, operator or admin.")]
HostOption = Annotated[str | None, typer.Option("--host", help="The address to listen on. Default: 127.0.0.1.")]
PortOption = Annotated[int | None, typer.Option("--port", min=0, max=65_535, help="Default: 8081.")]
ReportOption = Annotated[Path | None, typer.Option("--report", hidden=True, help="The file that `up` reads.")]
BY = "command line"
Found = TypeVar("Found")


@app.callback(invoke_without_command=True)
def console(
    context: typer.Context,
    port: PortOption = None,
    host: HostOption = None,
    data_dir: DataDirOption = None,
    report_path: ReportOption = None,
) -> None:
    """Run the console, or manage its operators."""
    if context.invoked_subcommand is not None:
        return
    outlive_hangups()
    report = Report(report_path)
    with report.complaining():
        from engine.running import libraries, reach

        libraries.check()
        logs.configure("console")
        settings = Settings.load(console_port=port, console_host=host, data_dir=data_dir)
        from api.console.server import serve

        run(serve(reach.running(settings), report.ready))


@app.command()
def add_operator(
    name: NameArgument, role: RoleOption = "viewer", data_dir: DataDirOption = None, as_json: JsonOption = False
) -> None:
    """Add an operator, and print the link with which they set a password and an authenticator."""

    async def work(operators: "Operators", log: "OperatorLog") -> str:
        from engine.operators.log import COMMAND_LINE, OK

        link = await operators.add(name, role, by=BY)
        await log.write(COMMAND_LINE, "add operator", OK, subject=("operator", name), arguments={"role": role})
        return link

    _show_link(data_dir, name, _with(data_dir, work), as_json=as_json)


@app.command()
def reset_operator(name: NameArgument, data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Forget an operator's password and authenticator, end their sessions, and print a new link."""

    async def work(operators: "Operators", log: "OperatorLog") -> str:
        from engine.operators.log import COMMAND_LINE, OK

        link = await operators.reset(name)
        await log.write(COMMAND_LINE, "reset operator", OK, subject=("operator", name))
        return link

    _show_link(data_dir, name, _with(data_dir, work), as_json=as_json)


@app.command()
def disable_operator(name: NameArgument, data_dir: DataDirOption = None) -> None:
    """Refuse an operator from now on, and end their sessions."""

    async def work(operators: "Operators", log: "OperatorLog") -> None:
        from engine.operators.log import COMMAND_LINE, OK

        await operators.disable(name)
        await log.write(COMMAND_LINE, "disable operator", OK, subject=("operator", name))

    _with(data_dir, work)
    show(f"{name} is disabled")


@app.command()
def list_operators(data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Show all operators."""

    async def work(operators: "Operators", _: "OperatorLog") -> list[dict[str, object]]:
        return [dataclasses.asdict(view) for view in await operators.list()]

    found = _with(data_dir, work)
    if as_json:
        show(orjson.dumps(found).decode())
    elif not found:
        show("there is no operator: hongbao console add-operator NAME --role admin")
    for view in [] if as_json else found:
        state = "disabled" if view["disabled_at_ms"] else "set up" if view["is_set_up"] else "not set up yet"
        show(f"{view['name']}  {view['role']}  {state}")


def _show_link(data_dir: Path | None, name: str, link: str, *, as_json: bool) -> None:
    from engine.running import consoles

    address = f"{consoles.address_of(Settings.load(data_dir=data_dir))}/setup/{link}"
    if as_json:
        show(orjson.dumps({"operator": name, "link": address}).decode())
    else:
        show(f"{name} opens this within ten minutes, once:")
        show(address)


def _with(data_dir: Path | None, work: "Callable[[Operators, OperatorLog], Awaitable[Found]]") -> Found:
    """Do work on the database, and nothing else: operators can be reset while Redis is away."""
    from engine.ledger import schema
    from engine.ledger.database import database_pool
    from engine.operators.accounts import Operators
    from engine.operators.log import OperatorLog
    from engine.operators.passwords import Passwords
    from engine.running import reach

    logs.configure("console")

    async def connected(settings: Settings) -> Found:
        pool = await database_pool(
            settings.database_url or "", connections_max=2, timeout_s=settings.database_timeout_s
        )
        try:
            await schema.check_in(pool)
            passwords = Passwords(settings.payment_password_hash_kib)
            return await work(Operators(pool, passwords), OperatorLog(pool))
        finally:
            await asyncio.wait_for(pool.close(), settings.database_timeout_s)

    loaded = Settings.load(data_dir=data_dir)
    reach.check_has_books(loaded)
    with reach.reachable(loaded) as settings:
        return run(connected(settings))
