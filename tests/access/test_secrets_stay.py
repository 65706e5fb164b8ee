"""Secrets stay where they are: a server with known ones is driven into errors, and all it puts out is searched."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from engine.access.tokens import issue
from engine.embedded import servers
from tests.support.access_table import wrong_tokens
from tests.support.commands import Kept, hongbao, kept
from tests.support.front import Client, new_key

SIGNS, VERIFIES, UNNAMED = (f"known-{name}-secret-{name * 12}" for name in ("first", "second", "third"))
VARIABLES = {"HONGBAO_AUTH_SECRETS": f"new:{SIGNS},old:{VERIFIES}", "HONGBAO_AUTH_SECRET": UNNAMED}


@pytest.fixture
def data_dir(quick_path: Path) -> Iterator[Path]:
    path = quick_path / "data"
    yield path
    servers.remove(path)


async def drive(client: Client, tokens: list[str]) -> list[httpx.Response]:
    """Proper requests and every kind of error, with each of the tokens."""
    packet_id = await client.send("alice")
    answers = []
    paths = ("/metrics", "/readyz", "/openapi.json", "/nowhere", "/v1/wallets/alice", f"/v1/packets/{packet_id}")
    for token in tokens:
        headers = {"authorization": token, "x-user-id": "alice"} | new_key()
        answers += [await client.http.get(path, headers=headers) for path in paths]
        for content in (b"{", b'{"total_fen": 0}', b'{"amount_fen": 5}', token.encode(), b"x" * 300_000):
            for path in ("/v1/packets", "/v1/claims", "/v1/wallets/alice/deposits", f"/v1/packets/{packet_id}/claims"):
                answers.append(await client.http.post(path, content=content, headers=headers))
        answers.append(await client.http.get(f"/v1/wallets/alice?after={token[-50:]}", headers=headers))
    return answers


def put_out(running: Kept) -> dict[str, bytes]:
    """Everything the command and its children wrote anywhere, and the arguments they run with."""
    found = {str(path): path.read_bytes() for path in running.data_dir.rglob("*") if path.is_file()}
    found["stderr"] = running.log_path.read_bytes()
    for pid in (running.process.pid, *running.family()):
        found[f"arguments of {pid}"] = " ".join(psutil.Process(pid).cmdline()).encode()
    return found


@pytest.mark.long
async def test_a_server_driven_into_errors_tells_none_of_its_secrets(data_dir: Path) -> None:
    """On servers of its own, so that their logs are searched as well."""
    with kept("up", "--port", "0", data_dir=data_dir, **VARIABLES) as running:
        assert running.process.stdout is not None
        line = running.process.stdout.readline()
        assert line.startswith("ready"), running.log_path.read_text(encoding="utf-8")
        genuine = [
            issue(SIGNS.encode(), "backend", ("act", "admin"), 3_600, key_id="new"),
            issue(VERIFIES.encode(), "backend", ("act", "send"), 3_600, key_id="old"),
            issue(UNNAMED.encode(), "alice", ("send",), 3_600),
        ]
        tokens = [f"Bearer {token}" for token in genuine]
        tokens += [token for token in wrong_tokens(UNNAMED.encode()).values() if token]
        async with httpx.AsyncClient(base_url=line.split()[1], timeout=30) as http:
            answers = await drive(Client(http, UNNAMED.encode()), tokens)
            await a_failure_inside(running, http, tokens[0])
        places = put_out(running)
        code, rest = running.end()
    assert (code, rest) == (0, "")
    places["stderr to the end"] = running.log_path.read_bytes()
    places |= {f"answer {place}": b"%r" % answer.headers.raw + answer.content for place, answer in enumerate(answers)}
    assert {answer.status_code for answer in answers} >= {200, 400, 401, 403, 404, 413, 422}
    assert b"ConnectionRefusedError" in places["stderr to the end"] or b"child died" in places["stderr to the end"]
    hidden = [SIGNS, VERIFIES, UNNAMED, *(token.removeprefix("Bearer ") for token in tokens if len(token) > 100)]
    for place, said in places.items():
        assert [secret for secret in hidden if secret.encode() in said] == [], place


async def a_failure_inside(running: Kept, http: httpx.AsyncClient, token: str) -> None:
    """Kill the servers under the API's feet while it is asked, so that it has failures of its own to tell."""
    for name, pid in running.pids().items():
        if name in ("postgres", "redis"):
            psutil.Process(pid).kill()
    headers = {"authorization": token, "x-user-id": "alice"}
    answers = await asyncio.gather(*(http.get("/v1/wallets/alice", headers=headers) for _ in range(20)))
    assert {answer.status_code for answer in answers} <= {200, 503}


@pytest.mark.long
def test_commands_that_fail_tell_none_either(tmp_path: Path) -> None:
    for words in (("token", "--user", "a b"), ("token", "--user", "bob", "--key-id", "x"), ("audit",), ("serve",)):
        done = hongbao(*words, "--data-dir", tmp_path, **VARIABLES)
        assert done.returncode == 1
        for secret in (SIGNS, VERIFIES, UNNAMED):
            assert secret not in done.stdout + done.stderr
    printed = hongbao("token", "--user", "bob", "--data-dir", tmp_path, **VARIABLES)
    assert printed.returncode == 0
    assert SIGNS not in printed.stdout + printed.stderr
