"""`hongbao fundraisers`: lists fundraisers, shows one, and ends it for its owner."""

import dataclasses
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from engine.cli.common import DataDirOption, JsonOption, on_ledger, show
from engine.text import yuan

if TYPE_CHECKING:
    from engine.connected import Connected
    from engine.fundraising.views import FundraiserLine, FundraiserView

app = typer.Typer(help="Fundraisers: list them, show one, end it.", no_args_is_help=True)
NumberArgument = Annotated[int, typer.Argument(metavar="FUNDRAISER", min=1, max=2**62, help="Its number.")]
_LISTED_MAX = 1_000


@app.command(name="list")
def list_fundraisers(data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Show the newest fundraisers, up to 1,000."""
    from engine.fundraising import views

    async def look(connected: "Connected") -> "list[FundraiserLine]":
        return await views.newest(connected.pool, _LISTED_MAX)

    found = on_ledger("fundraisers", data_dir, look)
    if as_json:
        show(orjson.dumps([dataclasses.asdict(line) for line in found]).decode())
    elif not found:
        show("there is no fundraiser")
    for line in [] if as_json else found:
        show(
            f"fundraiser {line.fundraiser_id}  {line.owner}  {line.title}: {line.state}, {yuan(line.raised_fen)} of "
            f"{yuan(line.goal_fen)}"
        )


@app.command(name="show")
def show_fundraiser(number: NumberArgument, data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Show one fundraiser: its state, its sums, and its matches."""
    _tell(on_ledger("fundraisers", data_dir, lambda connected: _view(connected, number)), as_json)


@app.command()
def end(number: NumberArgument, data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """End a fundraiser now: the sweeper settles it as if its time were over. Cannot be undone."""
    from engine.fundraising import fundraisers

    async def work(connected: "Connected") -> "FundraiserView":
        await fundraisers.set_ended(connected.pool, str(number))
        return await _view(connected, number)

    _tell(on_ledger("fundraisers", data_dir, work), as_json)


async def _view(connected: "Connected", number: int) -> "FundraiserView":
    from engine.fundraising.views import FundraiserViews

    return await FundraiserViews(connected.pool).get(str(number))


def _tell(view: "FundraiserView", as_json: bool) -> None:
    if as_json:
        show(orjson.dumps(view).decode())
        return
    show(f"fundraiser {view.fundraiser_id}  {view.owner}  {view.title}: {view.state}, {view.mode}")
    show(f"goal      {yuan(view.goal_fen)}")
    show(f"raised    {yuan(view.raised_fen)} (gifts: {view.gift_count:,}; matched: {yuan(view.matched_fen)})")
    if view.returned_count:
        show(f"returned  {yuan(view.returned_fen)} (gifts: {view.returned_count:,})")
    for match in view.matches:
        show(f"match {match.match_id}  {match.merchant}  {yuan(match.matched_fen)} of {yuan(match.budget_fen)}")
