"""`hongbao coupons`: lists batches, shows what has become of one, uploads its codes from a file."""

import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import orjson
import typer

from engine.cli.common import DataDirOption, JsonOption, run, show
from engine.observability import logs
from engine.settings import Settings

if TYPE_CHECKING:
    from engine.connected import Connected
    from engine.coupons.batches import Batches, BatchStatement, BatchView
    from engine.coupons.uploading import PartUploaded

app = typer.Typer(help="Coupons: list their batches, show one, upload its codes.", no_args_is_help=True)
NumberArgument = Annotated[int, typer.Argument(metavar="BATCH", min=1, max=2**62, help="Its number.")]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="CSV in UTF-8, one code per line.")]
_LISTED_MAX = 1_000
Found = TypeVar("Found")


@app.command(name="list")
def list_batches(data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Show the newest batches, up to 1,000."""

    async def look(_: "Connected", batches: "Batches") -> "list[BatchView]":
        return await batches.newest(_LISTED_MAX)

    found = _with(data_dir, look)
    if as_json:
        show(orjson.dumps([dataclasses.asdict(view) for view in found]).decode())
    elif not found:
        show("there is no batch of coupons")
    for view in [] if as_json else found:
        codes = f"{view.uploaded:,} of {view.count:,} codes uploaded" if view.codes == "uploaded" else "derived codes"
        show(f"batch {view.batch_id}  {view.owner}  {view.name}: {view.count:,} coupons, {codes}")


@app.command(name="show")
def show_batch(number: NumberArgument, data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Show what has become of a batch's coupons."""

    async def look(_: "Connected", batches: "Batches") -> "BatchStatement":
        return await batches.statement(await batches.known(number))

    statement = dataclasses.asdict(_with(data_dir, look))
    if as_json:
        show(orjson.dumps(statement).decode())
        return
    show(f"batch {statement.pop('batch_id')}: {statement.pop('count'):,} coupons")
    for name, count in statement.items():
        if count:
            show(f"{name.replace('_', ' ')}  {count:,}")


@app.command()
def upload(
    number: NumberArgument, file: FileArgument, data_dir: DataDirOption = None, as_json: JsonOption = False
) -> None:
    """Upload a batch's codes. The same file again goes on where it was left. Needs HONGBAO_COUPON_KEYS."""
    from engine.coupons import files

    def told(taken: "PartUploaded") -> None:
        if not as_json:
            show(f"part {taken.part}: {taken.codes:,} codes{', known before' if taken.replayed else ''}")

    async def work(connected: "Connected", batches: "Batches") -> "BatchView":
        batch = await batches.known(number)
        await files.upload_file(connected.pool, batches, batch, file, told)
        return await batches.view(batch)

    view = _with(data_dir, work)
    if as_json:
        show(orjson.dumps(view).decode())
    else:
        show(f"batch {view.batch_id}: {view.uploaded:,} of {view.count:,} codes uploaded")


def _with(data_dir: Path | None, work: "Callable[[Connected, Batches], Awaitable[Found]]") -> Found:
    from engine.connected import Connected
    from engine.coupons import keys
    from engine.coupons.batches import Batches
    from engine.running import reach

    logs.configure("coupons")

    async def connected_work(settings: Settings) -> Found:
        async with Connected.open(settings) as connected:
            return await work(connected, Batches(connected.pool, keys.load(settings)))

    loaded = Settings.load(data_dir=data_dir)
    reach.check_has_books(loaded)
    with reach.reachable(loaded) as settings:
        return run(connected_work(settings))
