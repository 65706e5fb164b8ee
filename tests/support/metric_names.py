"""The names and labels of all metrics that a scrape, or the node exporter, may show."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from engine.observability import metrics

_SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""]}


@cache
def labels_by_sample() -> dict[str, frozenset[str]]:
    """Each sample's name and its labels."""
    found: dict[str, frozenset[str]] = {}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            for suffix in _SUFFIXES[family.type]:
                extra = {"le"} if suffix == "_bucket" else set()
                found[family.name + suffix] = frozenset({*metric._labelnames, *extra})
    scraped = {family.name for family in REGISTRY.collect() if family.name.startswith("hongbao_")}
    assert scraped <= {name.removesuffix("_total").removesuffix("_sum") for name in found}
    return found | _of_files()


def _of_files() -> dict[str, frozenset[str]]:
    with TemporaryDirectory() as folder:
        audit, reconciliation = Path(folder, "audit.prom"), Path(folder, "reconciliation.prom")
        metrics.write_audit(audit, {"x": 1}, 1.0)
        metrics.write_reconciliation(reconciliation, {"x": 1}, 1.0)
        text = audit.read_text(encoding="utf-8") + reconciliation.read_text(encoding="utf-8")
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {sample.name: frozenset(sample.labels) for sample in samples}
