"""schemathesis on a real server by its OpenAPI document, with a token of each scope: no 5xx, nothing undocumented.

``--schema-examples`` says how many examples an operation gets (`make fuzz` tries more).
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from engine.settings import Settings
from tests.support.front import Client, serving
from tests.support.repository import ROOT

SCOPES: dict[str, tuple[str, ...]] = {
    "none": (),
    "send": ("send",),
    "claim": ("claim",),
    "act": ("act",),
    "admin": ("admin",),
    "all": ("send", "claim", "act", "admin"),
}
# With whatever comes into its head for numbers and names, and with things that exist.
ANYTHING, EXISTING = ("none", "admin"), ("send", "claim", "act", "all")
CONFIG = """
# What the terms of a packet may be together is more than a schema says, so a body that fits it may still be refused.
[checks]
positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "409", "422", "423"]
# Any request may carry headers that mean nothing to us. Unknown fields and queries: tests/api/test_api_bad_input.py.
[generation]
allow-extra-parameters = false
"""
RUN_S_MAX = 600
EXAMPLES_QUICK_MAX = 20
"""With more, requests that follow from one another's answers are tried as well, which takes as long as all the rest."""


def config_of(token: str, parameters: dict[str, str]) -> str:
    """With the token and, so that more than 404 and 403 is seen, with things that exist."""
    auth = f'[auth.openapi.bearer]\nbearer = "{token}"\n' if token else ""
    fixed = "".join(f'"{name}" = "{value}"\n' for name, value in parameters.items())
    return f"{CONFIG}{auth}[parameters]\n{fixed}"


def share_characters(folder: Path) -> None:
    """Have hypothesis find its tables of all characters where this checkout's tests keep them, and not make new ones.

    Nothing else of its own is shared: examples that failed stay with the run that found them.
    """
    tables = ROOT / ".hypothesis" / "unicode_data"
    tables.mkdir(parents=True, exist_ok=True)
    (folder / ".hypothesis").mkdir()
    (folder / ".hypothesis" / "unicode_data").symlink_to(tables)


async def run(
    client: Client, folder: Path, config: str, others: dict[str, dict[str, str]], examples: int
) -> tuple[int, str]:
    """The exit code and the report. ``others``: scopes with the headers that they add to each request."""
    path = folder / "schemathesis.toml"
    path.write_text(config, encoding="utf-8")
    share_characters(folder)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(path), "--no-color"),
        *("run", f"{client.http.base_url}/openapi.json", "--seed", "1", "--max-examples", str(examples)),
        *("--phases", "examples,coverage,fuzzing" + (",stateful" if examples > EXAMPLES_QUICK_MAX else "")),
        cwd=folder,
        env=os.environ
        | {
            "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_HOOKS": "tests.support.every_scope",
            "OTHERS": json.dumps(others),
            "ASKED": str(folder / "asked.json"),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), RUN_S_MAX)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(shared_settings: Settings) -> AsyncIterator[Client]:
    """Of one server for all scopes: what one run has left is no news to the next."""
    async with serving(shared_settings) as (serving_client, _):
        yield serving_client


@pytest.mark.long
@pytest.mark.timeout(RUN_S_MAX + 60)
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("names", [ANYTHING, EXISTING], ids=" ".join)
async def test_every_answer_is_as_documented(
    client: Client, tmp_path: Path, pytestconfig: pytest.Config, names: tuple[str, ...]
) -> None:
    user = f"alice-{names[0]}"
    await client.deposit(user, 1_000_000)
    packet_id = await client.send(user, count=100)
    parameters = {"path.packet_id": packet_id, "path.number": packet_id, "path.user_id": user, "header.X-User-Id": user}
    first, *others = names
    token = client.as_user(user, *SCOPES[first])["authorization"].removeprefix("Bearer ") if SCOPES[first] else ""
    headers = {name: {"Authorization": client.as_user(user, *SCOPES[name])["authorization"]} for name in others}
    config = config_of(token, {} if names is ANYTHING else parameters)
    code, report = await run(client, tmp_path, config, headers, int(pytestconfig.getoption("--schema-examples")))
    print(report)  # noqa: T201  # for `make fuzz`
    assert code == 0, report
    asked = json.loads((tmp_path / "asked.json").read_text(encoding="utf-8"))
    assert asked.keys() == {"its own", *others}
    assert len({*asked.values()}) == 1
    assert asked["its own"] > 500


def test_every_scope_is_tried() -> None:
    assert {*ANYTHING, *EXISTING} == SCOPES.keys()
