"""The Helm chart. `deploy/helm/rendered.yaml` is what it renders: read by every run, and made again where Helm is."""

import importlib
import importlib.util
import json
import re
from typing import Any
from urllib.parse import urlsplit

import jsonschema_rs
import pytest
import yaml

from api.console import server as console_server
from api.limits import PROBES
from api.routes import ROUTES
from api.server import STOP_S_MAX
from engine.access import keyring
from engine.running import up
from engine.running.processes import Share
from engine.settings import Settings
from tests.support.chart import CHART, RELEASE, RENDERED, Manifest, head, manifests_in, needs_helm, text_of
from tests.support.deploying import commands, read
from tests.support.needs import skip_without_tool
from tests.support.repository import ROOT

VALUES: dict[str, Any] = yaml.safe_load(read(CHART / "values.yaml"))
SCHEMA: dict[str, Any] = json.loads(read(CHART / "values.schema.json"))
MANIFESTS = manifests_in(read(RENDERED))
AGAIN = "python -m tests.support.chart > deploy/helm/rendered.yaml"
OF_THE_CHART = {
    "HONGBAO_HOST",
    "HONGBAO_PORT",
    "HONGBAO_METRICS_PORT",
    "HONGBAO_PERSISTERS",
    "HONGBAO_DRAIN_DELAY_S",
    "HONGBAO_DATA_DIR",
    "HONGBAO_DATABASE_URL",
    "HONGBAO_REDIS_URL",
    "HONGBAO_CONSOLE_HOST",
    "HONGBAO_CONSOLE_METRICS_URLS",
    "HONGBAO_CONSOLE_ORIGIN",
    "HONGBAO_CONSOLE_PORT",
    "HONGBAO_COUPON_KEYS",
    "HONGBAO_WEBHOOK_SECRET",
    "HONGBAO_TLS_CERTIFICATE",
    "HONGBAO_TLS_KEY",
    "HONGBAO_AUTH_SECRET",
    "HONGBAO_AUTH_SECRETS",
    "HONGBAO_WORKERS",
}
"""What the chart sets itself, or what would do nothing or harm among its settings."""
EVERYTHING = {
    "tls": {"secretName": "hongbao-tls"},
    "imagePullSecrets": [{"name": "registry"}],
    "serviceAccountName": "hongbao",
    "settings": {"HONGBAO_LANES": "4", "HONGBAO_ACK": "ledger", "HONGBAO_FESTIVALS": ""},
    "api": {
        "autoscaling": {"enabled": False},
        "replicas": 3,
        "drainDelaySeconds": 0,
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "money", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "podAnnotations": {"team": "red"},
    },
    "ingress": {"enabled": True, "host": "hongbao.example", "className": "nginx", "tlsSecretName": "front"},
    "persist": {"shares": 3},
    "console": {
        "enabled": True,
        "origin": "https://console.hongbao.example:8443",
        "ingress": {"enabled": True, "className": "nginx", "tlsSecretName": "console"},
    },
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
}
LEAST = {"migrate": {"enabled": False}, "checks": {"enabled": False}, "podDisruptionBudget": {"enabled": False}}


def of_kind(kind: str, manifests: list[Manifest] | None = None) -> dict[str, Manifest]:
    found = MANIFESTS if manifests is None else manifests
    return {manifest["metadata"]["name"]: manifest for manifest in found if manifest["kind"] == kind}


def pod_of(manifest: Manifest) -> dict[str, Any]:
    spec = manifest["spec"]
    spec = spec["jobTemplate"]["spec"] if manifest["kind"] == "CronJob" else spec
    return dict(spec["template"]["spec"])


def pods(manifests: list[Manifest] | None = None) -> dict[str, dict[str, Any]]:
    found = [of_kind(kind, manifests) for kind in ("Deployment", "Job", "CronJob")]
    return {name: pod_of(manifest) for kind in found for name, manifest in kind.items()}


def container_of(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["containers"]
    return dict(container)


def variables_of(pod: dict[str, Any]) -> dict[str, Any]:
    return {entry["name"]: entry.get("value") for entry in container_of(pod)["env"]}


def problems_with(values: dict[str, Any]) -> list[str]:
    return [error.message for error in jsonschema_rs.validator_for(SCHEMA).iter_errors(values)]


def merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """As Helm does it."""
    both = {
        key: merged(values.get(key) or {}, value) if isinstance(value, dict) and key != "settings" else value
        for key, value in changes.items()
    }
    return values | both


def test_its_own_values_pass_its_schema() -> None:
    assert problems_with(VALUES) == []
    for changes in (EVERYTHING, LEAST):
        assert problems_with(merged(VALUES, changes)) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"servers": {"secretName": ""}},
        {"auth": {"secretName": "Not A Name"}},
        {"api": {"drainDelaySeconds": 301}},
        {"api": {"replica": 3}},
        {"persist": {"shares": 0}},
        {"sweep": {"shares": 2}},
        {"persit": {}},
        {"settings": {"HONGBAO_LANES": 4}},
        {"settings": {"LANES": "4"}},
        {"settings": {"HONGBAO_AUTH_SECRET": "x"}},
        {"ingress": {"enabled": True}},
        {"console": {"enabled": True}},
        {"console": {"enabled": True, "origin": "http://console.hongbao.example"}},
        {"console": {"enabled": True, "origin": "https://console.hongbao.example/"}},
        {"console": {"replicas": 2}},
        {"settings": {"HONGBAO_CONSOLE_PORT": "8081"}},
        {"podDisruptionBudget": {"maxUnavailable": 0}},
    ],
    ids=str,
)
def test_a_wrong_value_is_found(changes: dict[str, Any]) -> None:
    assert problems_with(merged(VALUES, changes)) != []


def test_what_the_chart_sets_cannot_be_set_twice() -> None:
    kept = set(SCHEMA["properties"]["settings"]["propertyNames"]["not"]["enum"])
    assert kept == OF_THE_CHART
    set_by_templates = {
        name for path in CHART.glob("templates/*") for name in re.findall(r"HONGBAO_[A-Z_]+", read(path))
    }
    assert set_by_templates <= kept


def test_the_settings_can_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VALUES["settings"].items():
        monkeypatch.setenv(name, value)
    Settings.load()


def test_each_process_is_there() -> None:
    assert {container_of(pod)["args"][0] for pod in pods().values()} == {
        "serve",
        "persist",
        "sweep",
        "migrate",
        "audit",
        "reconcile",
    }
    assert {container_of(pod)["args"][0] for pod in pods().values()} <= commands()
    assert len({container_of(pod)["image"] for pod in pods().values()}) == 1


@pytest.mark.parametrize("name", pods())
def test_a_pod_has_both_servers_and_no_rights(name: str) -> None:
    pod, container = pods()[name], container_of(pods()[name])
    assert pod["enableServiceLinks"] is False  # or the Service "hongbao" would set HONGBAO_PORT to a URL
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]
    keys = {entry["name"]: entry["valueFrom"]["secretKeyRef"] for entry in container["env"] if "valueFrom" in entry}
    assert {name: key["key"] for name, key in keys.items()} == {name: name for name in keys}
    assert {"HONGBAO_DATABASE_URL", "HONGBAO_REDIS_URL"} <= keys.keys()
    settings = {"configMapRef": {"name": f"{RELEASE}-settings"}} in container.get("envFrom", [])
    assert settings or VALUES["settings"].items() <= variables_of(pod).items()


def test_the_api_is_probed_and_stopped_as_it_expects() -> None:
    pod = pods()["hongbao-api"]
    container, variables = container_of(pod), variables_of(pod)
    (port,) = container["ports"]
    assert port == {"name": "http", "containerPort": int(variables["HONGBAO_PORT"])}
    assert int(variables["HONGBAO_PORT"]) == Settings.model_fields["port"].default
    asked = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert {probe["port"] for probe in asked.values()} == {"http"}
    paths = {kind: probe["path"] for kind, probe in asked.items()}
    assert paths == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
    assert {path.encode() for path in paths.values()} <= PROBES
    delay_s = float(variables["HONGBAO_DRAIN_DELAY_S"])
    assert pod["terminationGracePeriodSeconds"] >= delay_s + STOP_S_MAX + 5
    assert "HONGBAO_METRICS_PORT" not in variables


@pytest.mark.parametrize(("name", "least_s"), [("hongbao-persist", up._DRAIN_S), ("hongbao-sweep", 10)])
def test_a_worker_shows_its_metrics_and_has_the_time_to_stop(name: str, least_s: float) -> None:
    pod = pods()[name]
    container, variables = container_of(pod), variables_of(pod)
    (port,) = container["ports"]
    assert port == {"name": "metrics", "containerPort": int(variables["HONGBAO_METRICS_PORT"])}
    for kind in ("startup", "liveness", "readiness"):
        assert container[f"{kind}Probe"]["httpGet"] == {"path": "/livez", "port": "metrics"}
    assert pod["terminationGracePeriodSeconds"] >= least_s


def test_token_secrets_are_mounted_where_the_process_looks_in_a_mode_that_it_takes() -> None:
    needing = ["hongbao-api", "hongbao-audit", "hongbao-audit-full"]  # the audits sign anchors
    assert sorted(name for name, other in pods().items() if "auth-secrets" in str(other)) == needing
    for name in needing:
        _check_secrets(pods()[name])


def _check_secrets(pod: Manifest) -> None:
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "auth-secrets"]
    (mount,) = [mount for mount in container_of(pod)["volumeMounts"] if mount["name"] == "auth-secrets"]
    data_dir = Settings(data_dir=variables_of(pod)["HONGBAO_DATA_DIR"]).data_dir
    assert mount["mountPath"] == str(keyring._folder(data_dir))
    assert volume["secret"]["defaultMode"] in keyring._MODES
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]


def test_the_migration_runs_before_everything_else() -> None:
    job = of_kind("Job")["hongbao-migrate"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert "configMapRef" not in str(job)  # there is none yet at the first install


def test_selectors_find_their_pods_and_only_those() -> None:
    labels = {
        name: manifest["spec"]["template"]["metadata"]["labels"] for name, manifest in of_kind("Deployment").items()
    }

    def found_by(selector: dict[str, str]) -> set[str]:
        return {name for name, has in labels.items() if selector.items() <= has.items()}

    for name, manifest in of_kind("Deployment").items():
        assert found_by(manifest["spec"]["selector"]["matchLabels"]) == {name}
    for name, manifest in of_kind("PodDisruptionBudget").items():
        assert found_by(manifest["spec"]["selector"]["matchLabels"]) == {name}
    services = of_kind("Service")
    assert found_by(services["hongbao"]["spec"]["selector"]) == {"hongbao-api"}
    assert found_by(services["hongbao-workers"]["spec"]["selector"]) == {"hongbao-persist", "hongbao-sweep"}
    (scaler,) = of_kind("HorizontalPodAutoscaler").values()
    assert scaler["spec"]["scaleTargetRef"]["name"] in labels
    assert "replicas" not in of_kind("Deployment")["hongbao-api"]["spec"]  # an upgrade would undo the scaling


def test_the_ingress_shows_every_route_but_probes_and_metrics() -> None:
    paths = VALUES["ingress"]["paths"]
    for row in ROUTES:
        is_shown = any(row.path == path or row.path.startswith(f"{path}/") for path in paths)
        assert is_shown is (row.path.encode() not in PROBES), row.path


def test_the_alerts_are_those_of_the_docs() -> None:
    assert read(CHART / "files" / "prometheus-rules.yml") == read(ROOT / "docs" / "prometheus-rules.yml")


def test_what_is_committed_is_of_this_chart() -> None:
    assert read(RENDERED).startswith(head()), f"with helm-python-sdk installed: {AGAIN}"


def test_what_is_committed_is_what_helm_renders() -> None:
    needs_helm()
    assert manifests_in(text_of({})) == MANIFESTS, AGAIN


def test_every_part_can_be_rendered() -> None:
    needs_helm()
    manifests = manifests_in(text_of(EVERYTHING))
    everything = {manifest["kind"] for manifest in manifests}
    assert everything - {manifest["kind"] for manifest in MANIFESTS} == {"Ingress", "PrometheusRule", "ServiceMonitor"}
    (rules,) = of_kind("PrometheusRule", manifests).values()
    assert rules["spec"] == yaml.safe_load(read(ROOT / "docs" / "prometheus-rules.yml"))
    api = of_kind("Deployment", manifests)["hongbao-api"]
    assert api["spec"]["replicas"] == 3
    assert pod_of(api)["terminationGracePeriodSeconds"] == 20
    assert container_of(pod_of(api))["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"
    mounts = {mount["mountPath"] for mount in container_of(pod_of(api))["volumeMounts"]}
    variables = variables_of(pod_of(api))
    for name in ("HONGBAO_TLS_CERTIFICATE", "HONGBAO_TLS_KEY"):
        assert variables[name].rpartition("/")[0] in mounts
    (monitor,) = of_kind("ServiceMonitor", manifests).values()
    ports = {
        port["name"] for service in of_kind("Service", manifests).values() for port in service["spec"].get("ports", [])
    }
    assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} == ports
    for service in of_kind("Service", manifests).values():
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    persisters = {name: pod for name, pod in pods(manifests).items() if "persist" in name}
    assert sorted(persisters) == ["hongbao-persist-1", "hongbao-persist-2", "hongbao-persist-3"]
    shares = [Share.parse(container_of(persisters[name])["args"][-1]) for name in sorted(persisters)]
    assert shares == [Share(1, 3), Share(2, 3), Share(3, 3)]
    budgets = of_kind("PodDisruptionBudget", manifests)
    assert budgets.keys() == of_kind("Deployment", manifests).keys()
    for name, budget in budgets.items():
        labels = of_kind("Deployment", manifests)[name]["spec"]["template"]["metadata"]["labels"]
        assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
    least = {manifest["kind"] for manifest in manifests_in(text_of(LEAST))}
    assert least == {"ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Service"}


def test_the_console_is_one_process_behind_its_own_host(monkeypatch: pytest.MonkeyPatch) -> None:
    needs_helm()
    manifests = manifests_in(text_of(EVERYTHING))
    deployment = of_kind("Deployment", manifests)["hongbao-console"]
    assert deployment["spec"]["replicas"] == 1
    pod = pod_of(deployment)
    container, variables = container_of(pod), variables_of(pod)
    assert container["args"] == ["console"]
    assert pod["terminationGracePeriodSeconds"] >= console_server.STOP_S_MAX + 5
    for name, value in variables.items():
        if name.startswith("HONGBAO_CONSOLE_"):
            monkeypatch.setenv(name, value)
    settings = Settings.load()
    console_server.check_address(settings)
    assert settings.console_port == console_server.DEFAULT_PORT
    assert container["ports"] == [{"name": "console", "containerPort": settings.console_port}]
    asked = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert {probe["port"] for probe in asked.values()} == {"console"}
    assert [probe["path"] for probe in asked.values()] == ["/livez", "/livez", "/readyz"]
    _check_secrets(pod)  # for the anchors of its audits
    ingress = of_kind("Ingress", manifests)["hongbao-console"]["spec"]
    assert [rule["host"] for rule in ingress["rules"]] == ingress["tls"][0]["hosts"] == ["console.hongbao.example"]


def test_the_console_asks_each_pod_that_counts() -> None:
    needs_helm()
    manifests = manifests_in(text_of(EVERYTHING))
    services, asked = of_kind("Service", manifests), set()
    variables = variables_of(pods(manifests)["hongbao-console"])
    for url in variables["HONGBAO_CONSOLE_METRICS_URLS"].split():
        parts = urlsplit(url)
        service = services[str(parts.hostname)]["spec"]
        assert service["clusterIP"] == "None"  # else a name had one address, with another pod behind it each time
        for name, deployment in of_kind("Deployment", manifests).items():
            if service["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items():
                (port,) = container_of(pod_of(deployment))["ports"]
                assert port["containerPort"] == parts.port
                asked.add(name)
    assert asked == of_kind("Deployment", manifests).keys() - {"hongbao-console"}


def test_helm_finds_nothing_to_say() -> None:
    if importlib.util.find_spec("helm_python") is None:
        skip_without_tool("Helm's SDK", "pip install helm-python-sdk")
    helm: Any = importlib.import_module("helm_python")
    for values in ({}, EVERYTHING, LEAST):
        report = helm.lint(str(CHART), values, strict=True)
        assert report["errors"] == []
        assert [line for line in report["messages"] if line["severity"] > 1] == []
    with pytest.raises(helm.HelmError, match="drainDelaySeconds"):
        helm.Chart.load(str(CHART)).validate_schema({"api": {"drainDelaySeconds": 301}})


@pytest.mark.parametrize("version", ["1.28", "1.37"])
def test_kubernetes_knows_every_field(version: str) -> None:
    if importlib.util.find_spec("kubernetes_validate") is None:
        skip_without_tool("Kubernetes' schemas", "pip install kubernetes-validate")
    kubernetes: Any = importlib.import_module("kubernetes_validate")
    needs_helm()
    for values in ({}, EVERYTHING, LEAST):
        for manifest in manifests_in(text_of(values)):
            if not manifest["apiVersion"].startswith("monitoring."):  # the Prometheus operator's
                kubernetes.validate(manifest, version, strict=True)
