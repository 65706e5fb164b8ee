"""``python -m deploy.dashboards``: write every dashboard's file."""

import json
import sys
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


def main() -> int:
    """Returns 0, or 1 if the files cannot be written."""
    try:
        for each in DASHBOARDS:
            (FOLDER / f"{each.name}.json").write_text(text_of(each), encoding="utf-8")
    except OSError as error:
        sys.stderr.write(f"The dashboards cannot be written to {FOLDER}: {error.strerror}.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
