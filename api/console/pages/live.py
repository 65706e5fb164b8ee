"""The live storm: the page, the points that it asks for each second, and the same as a file."""

import math
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

import orjson
from starlette.responses import Response

from api.console.csv_files import Row, at
from api.console.live.ring import LONG_POINTS_MAX, LONG_STEP_MS
from api.console.rendering import number_of
from api.console.texts import marked
from api.console.visits import Page, Visit
from engine.errors import FieldProblem, InvalidFieldsError
from engine.packets.hottest import ENTRIES_MAX
from engine.persisting.lag import LaneLag
from engine.spreadsheets import Plain

WINDOW_S_MAX = LONG_POINTS_MAX * LONG_STEP_MS // 1_000
_TIME_MS_MAX = 2**53
_WINDOWS = (
    *((300, marked("5 minutes")), (900, marked("15 minutes")), (3_600, marked("1 hour"))),
    *((21_600, marked("6 hours")), (86_400, marked("24 hours"))),
)
_REFRESHES = (
    *((1, marked("1 second")), (2, marked("2 seconds")), (5, marked("5 seconds")), (15, marked("15 seconds"))),
    (0, marked("off")),
)
_FIGURES = (
    ("won", marked("Won per second")),
    ("answered", marked("Claims per second")),
    ("refused", marked("Refused per second")),
    ("p99", marked("p99 of a claim")),
    ("behind", marked("Ledger behind")),
    ("backlog-now", marked("Backlog")),
)
_CHARTS = (
    ("claims", marked("Claims per second, by outcome")),
    ("latency", marked("Time to a claim's answer")),
    ("grabs", marked("Grabs in campaigns per second, by outcome")),
    ("refusals", marked("Refused at a bound, per second")),
    ("lag", marked("Ledger behind, in seconds")),
    ("backlog", marked("Changes that are not booked")),
    ("batches", marked("Claims per call of Redis")),
)
_MINUTE = (
    *(marked("Until"), marked("Won per second"), marked("Claims per second"), marked("Grabs per second")),
    *(marked("Refused per second"), "p50", "p99", marked("Ledger behind")),
)
_HOTTEST_HINT = marked(
    "By the ledger's latest %(entries)s entries, of the last 10 s. Who came too late is not in the ledger."
)
_TEXTS = {
    "time": marked("Time"),
    "claimed": marked("won"),
    "already": marked("had one already"),
    "empty": marked("sold out"),
    "ended": marked("expired or retracted"),
    "not_allowed": marked("not allowed or unknown"),
    "busy": marked("refused: backlog full"),
    "p50": "p50",
    "p95": "p95",
    "p99": "p99",
    "grab_won": marked("won"),
    "grab_already": marked("had all already"),
    "grab_sold_out": marked("sold out"),
    "grab_missed": marked("missed by the odds"),
    "grab_other": marked("too soon, too often or no wave"),
    "grab_refused": marked("answered with an error"),
    "overloaded": marked("overloaded (503)"),
    "too_many": marked("asks too often (429)"),
    "turned_away": marked("connections turned away"),
    "behind_s": marked("oldest change that is not booked"),
    "not_booked": marked("not booked"),
    "backlog": marked("in the streams"),
    "batch": marked("claims per call"),
    "fenced": marked("refuses claims"),
    "serves": marked("serves"),
    "pause": marked("Pause"),
    "go_on": marked("Go on"),
    "sentence": marked("{won} shares won per second, {claims} claims per second, p99 {p99} ms, ledger {lag} s behind."),
    "no_data": marked("No data for {n} s: no API process answers."),
    "no_answer": marked("No data for {n} s: the console does not answer."),
    "signed_out": marked("The session has ended. Load the page again and sign in."),
    "silent": marked("{silent} of {all} processes do not answer: what they count is missing."),
}
"""What the page's script says, by its own names."""


async def live(visit: Visit) -> Response:
    """The page; ``?wall=1``: large and dark, without anything to press."""
    is_wall = visit.query.text("wall") == "1"
    return await visit.page(
        "live_wall.html" if is_wall else "live.html",
        is_wall=is_wall,
        texts=orjson.dumps({name: visit.gettext(text) for name, text in _TEXTS.items()}).decode(),
        windows=[(seconds, visit.gettext(name)) for seconds, name in _WINDOWS],
        refreshes=[(seconds, visit.gettext(name)) for seconds, name in _REFRESHES],
        figures=[(id_, visit.gettext(name)) for id_, name in _FIGURES],
        charts=[(id_, visit.gettext(name)) for id_, name in _CHARTS],
        minute_columns=[visit.gettext(name) for name in _MINUTE],
        hottest_hint=visit.gettext(_HOTTEST_HINT, entries=number_of(ENTRIES_MAX)),
    )


async def points(visit: Visit) -> Response:
    """The points after a time, the lanes, and the hottest packets. ``now_ms``: the server's clock."""
    live = visit.desk.live
    window = live.sampler.ring.window(window_s_of(visit), _number(visit, "after", 0, 0, _TIME_MS_MAX))
    answer = {
        **window.as_json(),
        "now_ms": live.now_ms(),
        "lanes": [_lane(lane) for lane in live.sampler.lanes],
        "hottest": [asdict(packet) for packet in await live.hottest.packets()],
        "sources": len(live.sampler.sources.names),
        "silent": live.sampler.silent,
    }
    return Response(orjson.dumps(answer), media_type="application/json")


async def file(visit: Visit) -> Response:
    """The window as CSV: a line per point, empty where nothing is known."""
    window = visit.desk.live.sampler.ring.window(window_s_of(visit))

    async def rows() -> AsyncIterator[Row]:
        for place, at_ms in enumerate(window.at_ms):
            values = (column[place] for column in window.series.values())
            yield [at(at_ms), at_ms, *(None if value is None else Plain(f"{value:.10g}") for value in values)]

    return await visit.file("live", ["time", "at_ms", *window.series], rows())


def window_s_of(visit: Visit) -> int:
    """How many seconds are asked for. Raises InvalidFieldsError."""
    return _number(visit, "window", 300, 1, WINDOW_S_MAX)


def _number(visit: Visit, name: str, otherwise: int, least: int, most: int) -> int:
    text = visit.query.text(name)
    if not text:
        return otherwise
    if not (text.isascii() and text.isdecimal() and len(text) <= 16 and least <= int(text) <= most):
        raise InvalidFieldsError([FieldProblem(name, f"must be a whole number from {least} to {most}")])
    return int(text)


def _lane(lane: LaneLag) -> dict[str, Any]:
    behind = lane.behind
    return {
        "lane": lane.lane,
        "is_fenced": lane.is_fenced,
        "quarantined": lane.quarantined,
        "events": None if behind is None else behind.events,
        "seconds": None if behind is None or math.isnan(behind.seconds) else behind.seconds,
        "backlog": None if behind is None else behind.backlog,
    }


ROUTES: tuple[Page, ...] = (
    Page("GET", "/live", live, "live:read"),
    Page("GET", "/live.json", points, "live:read", asks_by_itself=True),
    Page("GET", "/live.csv", file, "live:export", is_export=True),
)
