"""``python -m deploy.dashboards``: write every dashboard's file."""

import json
from pathlib import Path

from deploy.dashboards.ledger import LEDGER
from deploy.dashboards.money import MONEY
from deploy.dashboards.panels import Dashboard, as_json
from deploy.dashboards.processes import PROCESSES
from deploy.dashboards.storm import STORM

FOLDER = Path(__file__).parents[1] / "compose" / "grafana" / "dashboards"
DASHBOARDS = (STORM, LEDGER, MONEY, PROCESSES)


def text_of(dashboard: Dashboard) -> str:
    """The file of a dashboard."""
    return json.dumps(as_json(dashboard), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for each in DASHBOARDS:
        (FOLDER / f"{each.name}.json").write_text(text_of(each), encoding="utf-8")
