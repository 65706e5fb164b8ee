"""The demo's last lines: a picture of the storm that it has just played, and the page that shows it."""

import asyncio
from datetime import date
from pathlib import Path

from engine.analysis import report
from engine.analysis.finding import Language
from engine.analysis.studies import Study, study
from engine.calendar.china_time import today
from engine.embedded import servers
from engine.errors import HongbaoError
from engine.ledger.database import database_pool

FOLDER = Path(__file__).parents[2] / "build" / "demo"
_SHOWN = ("storm", "sold_out")
_QUESTION_S = 20.0


def draw(data_dir: Path, begun: date, folder: Path) -> list[str]:
    """Draw what happened since ``begun``. Returns the lines to print; they say so if nothing could be drawn."""
    try:
        report.check_can_draw(Language.EN)
        report.check_folder(folder)
        found = asyncio.run(_asked(data_dir, begun))
        page, _undrawn = report.write(folder, found, Language.EN)
    except HongbaoError as error:
        return [f"There is no picture: {error}"]
    return [
        *found.findings[0].said[Language.EN].sentences[:1],
        "The pictures are on this page:",
        page.resolve().as_uri(),
    ]


async def _asked(data_dir: Path, begun: date) -> Study:
    pool = await database_pool(servers.urls(data_dir).database_url, connections_max=1, timeout_s=2 * _QUESTION_S)
    try:
        return await study(pool, begun, today(), names=_SHOWN, statement_s=_QUESTION_S)
    finally:
        await pool.close()
