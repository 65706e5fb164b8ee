"""`hongbao data`: the embedded servers' data on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.common import DataDirOption, show
from engine.errors import OperatorError
from engine.settings import Settings

app = typer.Typer(help="The embedded servers' data on this machine.", no_args_is_help=True)

YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.callback()
def _data() -> None:
    """The embedded servers' data on this machine."""


@app.command()
def remove(*, data_dir: DataDirOption = None, yes: YesOption = False) -> None:
    """Remove an installation for good, after a question: ledger, wallets, secrets, and its files elsewhere."""
    from engine.doctor.lines import megabytes
    from engine.embedded import servers

    path = Settings.load(data_dir=data_dir).data_dir
    servers.check_ours(path)
    with servers.hold(path):  # the lock shows that nobody uses it
        places = servers.places(path)
    for place in places:
        show(f"{megabytes(_bytes_in(place)):>12}  {place}")
    if not yes:
        try:
            typer.confirm("Remove all of it for good, with its ledger and its secrets?", abort=True)
        except typer.Abort:
            raise OperatorError("Nothing was removed. To remove it without a question, add --yes.") from None
    servers.remove(path)
    show("removed")


def _bytes_in(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
