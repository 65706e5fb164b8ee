"""`hongbao campaigns`: lists campaigns, shows one, and stops, resumes or ends it for its owner."""

import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from engine.cli.common import DataDirOption, JsonOption, on_ledger, show
from engine.text import decimal

if TYPE_CHECKING:
    from engine.campaigns.views import CampaignLine, CampaignView
    from engine.connected import Connected

app = typer.Typer(help="Campaigns: list them, show one, pause it, let it go on, end it.", no_args_is_help=True)
NumberArgument = Annotated[int, typer.Argument(metavar="CAMPAIGN", min=1, max=2**62, help="Its number.")]
_LISTED_MAX = 1_000


@app.command(name="list")
def list_campaigns(data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Show the newest campaigns, up to 1,000."""
    from engine.campaigns import views

    async def look(connected: "Connected") -> "list[CampaignLine]":
        return await views.newest(connected.pool, _LISTED_MAX)

    found = on_ledger("campaigns", data_dir, look)
    if as_json:
        show(orjson.dumps([dataclasses.asdict(line) for line in found]).decode())
    elif not found:
        show("there is no campaign")
    for line in [] if as_json else found:
        show(f"campaign {line.campaign_id}  {line.owner}  {line.name}")


@app.command(name="show")
def show_campaign(number: NumberArgument, data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Show one campaign: its state, and what each wave has given."""
    _tell(on_ledger("campaigns", data_dir, lambda connected: _view(connected, number)), as_json)


@app.command()
def pause(number: NumberArgument, data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Stop the grabs. Every process does so within a second, and the waves end when they would have ended."""
    from engine.campaigns import campaigns

    _change(number, data_dir, as_json, lambda pool, known: campaigns.set_paused(pool, known, is_paused=True))


@app.command()
def resume(number: NumberArgument, data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Let a paused campaign go on."""
    from engine.campaigns import campaigns

    _change(number, data_dir, as_json, lambda pool, known: campaigns.set_paused(pool, known, is_paused=False))


@app.command()
def end(number: NumberArgument, data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """End a campaign. The sweeper closes it, and what is left goes back to its owner. Cannot be undone."""
    from engine.campaigns import campaigns

    _change(number, data_dir, as_json, campaigns.set_ended)


def _change(number: int, data_dir: Path | None, as_json: bool, change: "Callable[..., Awaitable[None]]") -> None:
    from engine.campaigns.register import Register

    async def work(connected: "Connected") -> "CampaignView":
        await change(connected.pool, await Register(connected.pool).known(str(number)))
        return await _view(connected, number)

    _tell(on_ledger("campaigns", data_dir, work), as_json)


async def _view(connected: "Connected", number: int) -> "CampaignView":
    from engine.campaigns.register import Register
    from engine.campaigns.views import CampaignViews

    register = Register(connected.pool)
    return await CampaignViews(connected.pool, connected.store, connected.settings, register).get(str(number))


def _tell(view: "CampaignView", as_json: bool) -> None:
    if as_json:
        show(orjson.dumps(view).decode())
        return
    shares = f"{view.claimed_count:,} of {view.count:,} shares given"
    show(f"campaign {view.campaign_id}  {view.owner}  {view.name}: {view.state}, {shares}")
    for wave in view.waves:
        for prize in wave.prizes:
            total, given = decimal(prize.total_fen, prize.scale), f"{prize.claimed_count:,} of {prize.count:,}"
            line = f"wave {wave.wave}  {given} shares given, of {total} {prize.asset}"
            if prize.returned_fen is not None:
                line += f", {decimal(prize.returned_fen, prize.scale)} returned"
            show(line)
