"""The Helm chart, rendered by Helm's own code, if one of its two packages is here. No cluster is asked.

After a change of the chart: ``python -m tests.support.chart > deploy/helm/rendered.yaml``
"""

import hashlib
import importlib
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.needs import skip_without_tool
from tests.support.repository import ROOT

CHART = ROOT / "deploy" / "helm" / "hongbao"
RENDERED = ROOT / "deploy" / "helm" / "rendered.yaml"
RELEASE = "hongbao"
_HEAD = """\
# What deploy/helm/hongbao renders with its own values, for the release hongbao: to be read, and for tests.
# Made by `python -m tests.support.chart`, of sources with the SHA-256 {digest}.
"""

Manifest = dict[str, Any]


def has_helm() -> bool:
    """Whether a chart can be rendered here."""
    return importlib.util.find_spec("helm_python") is not None or shutil.which("helm") is not None


def needs_helm() -> None:
    """Skip the test if no chart can be rendered here."""
    if not has_helm():
        skip_without_tool("Helm", "pip install helm-python-sdk")


def head() -> str:
    """The first lines of the rendered file. They show, also where there is no Helm, whether it is of this chart."""
    digest = hashlib.sha256()
    for path in sorted([CHART / "Chart.yaml", CHART / "values.yaml", *CHART.glob("templates/[!N]*")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return _HEAD.format(digest=digest.hexdigest()[:16])


def text_of(values: Mapping[str, Any]) -> str:
    """The chart's manifests as one text."""
    if importlib.util.find_spec("helm_python") is None:
        return _by_program(values)
    helm: Any = importlib.import_module("helm_python")
    rendered: dict[str, str] = helm.Chart.load(str(CHART)).render(dict(values), name=RELEASE, namespace=RELEASE)
    found = sorted((name, text.strip()) for name, text in rendered.items() if name.endswith(".yaml") and text.strip())
    whole = "".join(f"---\n# Source: {name}\n{text.removeprefix('---')}\n" for name, text in found)
    return "".join(f"{line.rstrip()}\n" for line in whole.splitlines() if line.strip())


def _by_program(values: Mapping[str, Any]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "values.json")
        path.write_text(json.dumps(values), encoding="utf-8")
        words = ["helm", "template", RELEASE, str(CHART), "--namespace", RELEASE, "--values", str(path)]
        return subprocess.run(words, capture_output=True, encoding="utf-8", timeout=60, check=True).stdout


def manifests_in(text: str) -> list[Manifest]:
    """The objects of a text, ordered by kind and name."""
    found = [manifest for manifest in yaml.safe_load_all(text) if manifest]
    return sorted(found, key=lambda manifest: (manifest["kind"], manifest["metadata"]["name"]))


if __name__ == "__main__":
    sys.stdout.write(head() + text_of({}))
