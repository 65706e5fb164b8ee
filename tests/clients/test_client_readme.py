"""The examples of the client's README, run as they stand against a real server."""

import asyncio
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from engine.settings import Settings
from tests.support.front import serving
from tests.support.repository import ROOT
from tests.support.scenes import persisting, sweeping

README = (ROOT / "clients" / "python" / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
EXAMPLES = {
    "a packet": BLOCKS[0],
    "a rain": BLOCKS[1],
    "a packet, awaited": BLOCKS[2],
    "a rain, awaited": BLOCKS[3],
}


@pytest.fixture
async def environment(settings: Settings) -> AsyncIterator[dict[str, str]]:
    """What the examples read: the address and the secret of a server."""
    async with serving(settings) as (client, _), persisting(settings), sweeping(settings):
        yield {"HONGBAO_URL": str(client.http.base_url), "HONGBAO_AUTH_SECRET": client.secret.decode()}


async def printed(example: str, environment: dict[str, str]) -> list[str]:
    """What an example prints, as a program of its own in which a warning is an error."""
    words = [sys.executable, "-W", "error", "-c", example]
    done = await asyncio.to_thread(
        subprocess.run,
        words,
        env={**os.environ, **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines: list[str] = done.stdout.splitlines()
    return lines


@pytest.mark.long
@pytest.mark.parametrize("name", ["a packet", "a packet, awaited"])
async def test_a_whole_packet(environment: dict[str, str], name: str) -> None:
    lines = await printed(EXAMPLES[name], environment)
    claims = [line.split() for line in lines[:4]]
    assert sorted(user for user, _, _ in claims) == ["bob", "carol", "dave", "eve"]
    assert Counter(outcome for _, outcome, _ in claims) == {"claimed": 3, "sold_out": 1}
    assert sum(int(amount) for _, _, amount in claims) == 1_000
    listed = [line.split() for line in lines[4:7]]
    assert [slot for slot, _, _ in listed] == ["0", "1", "2"]
    assert {(user, amount) for _, user, amount in listed} == {
        (user, fen) for user, what, fen in claims if what == "claimed"
    }
    assert lines[7:] in (["exhausted"], [])


@pytest.mark.long
async def test_a_whole_rain(environment: dict[str, str]) -> None:
    assert await printed(EXAMPLES["a rain"], environment) == ["100 shares, 50 came too late", "over"]


@pytest.mark.long
async def test_a_whole_rain_awaited(environment: dict[str, str]) -> None:
    assert await printed(EXAMPLES["a rain, awaited"], environment) == ["150 answers"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_has_at_most_twenty_lines(name: str) -> None:
    assert len([line for line in EXAMPLES[name].splitlines() if line]) <= 20


def test_the_receiver_of_alerts_can_be_read() -> None:
    compile(BLOCKS[4], "README.md", "exec")  # tests/clients/test_client_webhooks.py runs a receiver
    assert len(BLOCKS) == 5
