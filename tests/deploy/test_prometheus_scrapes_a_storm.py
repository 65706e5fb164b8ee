"""A real Prometheus scrapes a real storm, and every expression of every dashboard returns a series."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
import yaml

from engine.access import tokens
from engine.embedded import servers
from engine.settings import Settings
from tests.deploy.test_dashboard import EXPRESSIONS
from tests.support.commands import hongbao, kept
from tests.support.front import CHECKED, Client
from tests.support.ports import held_port
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.long, pytest.mark.programs("prometheus")]
STORM_S = 8.0
_NOWHERE = "http://127.0.0.1:9/"


@pytest.fixture
def data_dir(quick_path: Path) -> Iterator[Path]:
    path = quick_path / "data"
    yield path
    servers.remove(path)


@contextmanager
def running(*words: str) -> Iterator[None]:
    """A program, for as long as the block."""
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


@contextmanager
def prometheus(folder: Path, port: int, api_port: int, files_port: int) -> Iterator[str]:
    """A Prometheus that scrapes each second; its address."""
    scraped = [
        {
            "job_name": "hongbao",
            "scheme": "https",
            "tls_config": {"insecure_skip_verify": True},
            "static_configs": [{"targets": [f"127.0.0.1:{api_port}"]}],
        },
        *(  # as a node exporter shows what the commands leave for it
            {
                "job_name": name,
                "metrics_path": f"/{name}.prom",
                "static_configs": [{"targets": [f"127.0.0.1:{files_port}"]}],
            }
            for name in ("audit", "reconciliation")
        ),
    ]
    config = {"global": {"scrape_interval": "1s"}, "scrape_configs": scraped}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    options = (
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'series'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    )
    with running("prometheus", *options):
        yield f"http://127.0.0.1:{port}"


async def storm(client: Client) -> int:
    """Claim for some seconds; returns how many claims won."""
    won, ends_s = 0, asyncio.get_running_loop().time() + STORM_S
    while asyncio.get_running_loop().time() < ends_s:
        packet_id = await client.send("alice", total_fen=1_000, count=20)
        claims = (client.claim(packet_id, f"user{number}") for number in range(30))
        answers = await asyncio.gather(*claims)
        won += sum(answer["outcome"] == "claimed" for answer in answers)
    return won


async def test_every_expression_returns_a_series(data_dir: Path, tmp_path: Path) -> None:
    files, certificate = tmp_path / "files", trustme.CA().issue_cert("127.0.0.1")
    files.mkdir()
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(0o600)
    variables = {
        "HONGBAO_TLS_CERTIFICATE": str(tmp_path / "certificate.pem"),
        "HONGBAO_TLS_KEY": str(tmp_path / "key.pem"),
        "HONGBAO_WEBHOOK_URL": _NOWHERE,
        "HONGBAO_WEBHOOK_SECRET": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    }
    with (
        held_port() as files_port,
        held_port() as port,
        kept("up", "--port", "0", data_dir=data_dir, **variables) as up,
    ):
        assert up.process.stdout is not None
        line = up.process.stdout.readline()
        assert line.startswith("ready https://"), up.log_path.read_text(encoding="utf-8")
        base_url = line.split()[1]
        for command, name in (("audit", "audit"), ("reconcile", "reconciliation")):
            done = hongbao(command, "--data-dir", data_dir, "--textfile", files / f"{name}.prom", **variables)
            assert done.returncode == 0, done.stderr
        secret = tokens.load_secret(Settings(data_dir=data_dir, auth_secret=None))
        words = ("-m", "http.server", str(files_port), "--bind", "127.0.0.1", "--directory", str(files))
        api_port = int(base_url.rpartition(":")[2])
        with running(sys.executable, *words), prometheus(tmp_path, port, api_port, files_port) as address:
            async with (
                httpx.AsyncClient(base_url=base_url, verify=False, timeout=30, event_hooks=CHECKED) as http,
                httpx.AsyncClient(base_url=address) as asking,
            ):
                await wait_until(lambda: is_up(asking), timeout_s=30, what="Prometheus scraping everything")
                assert await storm(Client(http, secret)) > 100
                empty = [
                    f"{name}: {expression}"
                    for name, expression, _ in EXPRESSIONS
                    if not await asked(asking, expression.replace("[1m]", "[5s]").replace(" > 0)", ")"))
                ]
                assert empty == ALARMS_ONLY
                claimed = await asked(asking, 'sum(increase(hongbao_claims_total{outcome="claimed"}[1m]))')
                assert float(claimed[0]["value"][1]) > 100


ALARMS_ONLY = ["Lanes rebuilt: sum by (lane) (increase(hongbao_recoveries_total[1m])) > 0"]
"""What returns something only after something was lost."""


async def is_up(asking: httpx.AsyncClient) -> bool:
    try:
        ready = await asking.get("/-/ready")  # 503 until it has opened its series
    except httpx.TransportError:
        return False
    return ready.is_success and len(await asked(asking, "up == 1")) == 3


async def asked(asking: httpx.AsyncClient, expression: str) -> list[dict[str, Any]]:
    answer = (await asking.get("/api/v1/query", params={"query": expression})).json()
    assert answer["status"] == "success", answer
    result: list[dict[str, Any]] = answer["data"]["result"]
    return result
