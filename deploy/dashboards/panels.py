"""Panels and dashboards, as classic JSON: Grafana takes no newer form from a file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

SCHEMA_VERSION = 42
"""What Grafana 12 exports."""
WIDTH = 24
Json = dict[str, Any]
Kind = Literal["timeseries", "stat", "heatmap"]
_SOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
_SIZES: dict[Kind, tuple[int, int]] = {"timeseries": (8, 8), "stat": (4, 4), "heatmap": (24, 9)}
"""The width and height of each kind."""
_GREEN_THEN_RED = "green", "red"


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression, and its legend."""

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """What one panel shows. ``unit``: in Grafana's words. ``runbook``: the name of the page to open if it looks wrong.

    ``red_from``: a value at which a stat turns red. ``is_stacked``: the lines add up to a whole.
    """

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    runbook: str
    kind: Kind = "timeseries"
    red_from: float | None = None
    is_stacked: bool = False
    decimals: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A heading, with what is below it."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """``name``: of its file and, after "hongbao-", its lasting uid."""

    name: str
    title: str
    description: str
    rows: Sequence[Row]
    time_from: str = "now-1h"


def as_json(dashboard: Dashboard) -> Json:
    """The file's content."""
    return {
        "uid": f"hongbao-{dashboard.name}",
        "title": f"Hongbao: {dashboard.title}",
        "description": dashboard.description,
        "tags": ["hongbao"],
        "timezone": "browser",
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "fiscalYearStartMonth": 0,
        "liveNow": False,
        "time": {"from": dashboard.time_from, "to": "now"},
        "timepicker": {},
        "refresh": "5s",
        "annotations": {"list": list(_annotations())},
        "links": [
            {
                "type": "dashboards",
                "title": "Hongbao",
                "tags": ["hongbao"],
                "asDropdown": False,
                "includeVars": True,
                "keepTime": True,
                "targetBlank": False,
                "icon": "external link",
                "tooltip": "",
                "url": "",
            }
        ],
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Data source",
                    "type": "datasource",
                    "query": "prometheus",
                    "current": {},
                    "hide": 0,
                    "refresh": 1,
                    "regex": "",
                    "multi": False,
                    "includeAll": False,
                    "options": [],
                }
            ]
        },
        "panels": list(_placed(dashboard.rows)),
    }


def _placed(rows: Sequence[Row]) -> Iterator[Json]:
    """Every panel with its number and place: from left to right, as many as fit."""
    number = y = 0
    for row in rows:
        number += 1
        at = {"h": 1, "w": WIDTH, "x": 0, "y": y}
        yield {"id": number, "type": "row", "title": row.title, "collapsed": False, "gridPos": at, "panels": []}
        y += 1
        x = line_height = 0
        for panel in row.panels:
            number += 1
            width, height = _SIZES[panel.kind]
            if x + width > WIDTH:
                x, y, line_height = 0, y + line_height, 0
            yield _panel(panel, number=number, at={"h": height, "w": width, "x": x, "y": y})
            x, line_height = x + width, max(line_height, height)
        y += line_height


def _panel(panel: Panel, *, number: int, at: Json) -> Json:
    made: Json = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": f"{panel.description}\n\nRunbook: docs/runbooks/{panel.runbook}.md",
        "datasource": _SOURCE,
        "gridPos": at,
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _OPTIONS[panel.kind],
        "targets": [
            _target(query, letter, is_heatmap=panel.kind == "heatmap")
            for letter, query in zip("ABCDEFGH", panel.queries, strict=False)
        ],
    }
    return made


def _target(query: Query, letter: str, *, is_heatmap: bool) -> Json:
    return {
        "refId": letter,
        "datasource": _SOURCE,
        "editorMode": "code",
        "expr": query.expression,
        "legendFormat": query.legend,
        "format": "heatmap" if is_heatmap else "time_series",
        "range": True,
    }


def _field(panel: Panel) -> Json:
    field: Json = {"unit": panel.unit}
    if panel.decimals is not None:
        field["decimals"] = panel.decimals
    if panel.kind == "stat":
        fine, wrong = _GREEN_THEN_RED
        steps: list[Json] = [{"color": "blue" if panel.red_from is None else fine, "value": None}]
        if panel.red_from is not None:
            steps.append({"color": wrong, "value": panel.red_from})
        field["thresholds"] = {"mode": "absolute", "steps": steps}
        field["noValue"] = "no data"
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.is_stacked else "none", "group": "A"}
        field["min"] = 0
        field["custom"] = {
            "lineWidth": 1,
            "fillOpacity": 40 if panel.is_stacked else 8,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": stacking,
        }
    return field


_OPTIONS: dict[Kind, Json] = {
    "timeseries": {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"], "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "colorMode": "background",
        "graphMode": "none",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    },
    "heatmap": {
        "calculate": False,
        "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5},
        "rowsFrame": {"layout": "auto"},
        "yAxis": {"unit": "s", "axisPlacement": "left"},
        "tooltip": {"mode": "single", "yHistogram": False},
        "legend": {"show": True},
    },
}
STARTED = (
    "sum by (process) (increase(hongbao_process_starts_total[1m]) > 0"
    " or hongbao_process_starts_total unless hongbao_process_starts_total offset 1m)"
)
"""A process that shares its metrics counts on; one with metrics of its own begins anew, as another series."""
ANNOTATIONS = (
    ("Lanes rebuilt", "sum by (lane) (increase(hongbao_recoveries_total[1m])) > 0", "lane {{lane}} was rebuilt", "red"),
    ("Processes started", STARTED, "{{process}} started", "blue"),
)
"""Name, expression, text and colour."""


def _annotations() -> Iterator[Json]:
    for name, expression, text, color in ANNOTATIONS:
        yield {
            "name": name,
            "datasource": _SOURCE,
            "enable": True,
            "hide": False,
            "iconColor": color,
            "expr": expression,
            "step": "15s",
            "titleFormat": text,
            "textFormat": "",
            "tagKeys": "",
            "useValueForTime": False,
        }
