"""`hongbao up` as an operator meets it: one line when ready, JSON logs, nothing lost, nothing left behind."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from redis.asyncio import Redis

from engine.embedded import servers as embedded
from engine.engine import Engine
from engine.lanes import keys
from engine.lanes.clients import command
from engine.recovery.epochs import WHY
from engine.recovery.serving import Paused
from engine.settings import Settings
from engine.supervision import report
from tests.support.commands import Up, hongbao, hongbao_code, kept, sentence, upped
from tests.support.front import Client, new_key
from tests.support.waiting import wait_until

pytestmark = pytest.mark.long

MOMENTS = ["lock", "postgres.pid", "redis.pid", "persist.pid", "serve-1.pid"]
SERVERS = ("redis", "postgres")
CHILDREN = ["persist", "sweep", "serve-1", "redis", "postgres"]


@pytest.fixture
def data_dir(quick_path: Path) -> Iterator[Path]:
    path = quick_path / "data"
    yield path
    embedded.remove(path)


@pytest.fixture
def servers(settings: Settings) -> dict[str, str]:
    """The variables that name the tests' own servers."""
    return {"HONGBAO_REDIS_URL": settings.redis_url or "", "HONGBAO_DATABASE_URL": settings.database_url or ""}


async def wallet_fen(client: Client, user: str) -> int | None:
    """What the user holds; None while the ledger is away."""
    answer = await client.http.get(f"/v1/wallets/{user}", headers=client.as_user(user))
    return None if is_refused(answer) else int(answer.json()["balance_fen"])


def is_refused(answer: httpx.Response) -> bool:
    """Whether a request was put off, as it may be while a server is away; anything else but 200 is an error."""
    if answer.status_code == 200:
        return False
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) >= 1
    return True


async def credited(client: Client, user: str, amount_fen: int) -> None:
    """Wait until the persister has carried a claim over."""

    async def is_credited() -> bool:
        return await wallet_fen(client, user) == amount_fen

    await wait_until(is_credited, timeout_s=10, what=f"{user} holding {amount_fen}")


async def through_trouble(client: Client, packet_id: str, user: str) -> int:
    """Claim until it is answered; all that may come before is a lost connection or a 503 that says when to retry."""

    async def amount_fen() -> int:
        try:
            answer = await client.http.post(f"/v1/packets/{packet_id}/claims", headers=client.as_user(user))
        except (httpx.NetworkError, httpx.RemoteProtocolError):  # a timeout is not forgiven
            return 0
        return 0 if is_refused(answer) else int(answer.json()["amount_fen"])

    return await wait_until(amount_fen, timeout_s=30, what=f"an answer to {user}")


def test_says_one_line_logs_json_and_ends_with_0(tmp_path: Path, servers: dict[str, str]) -> None:
    with upped(tmp_path / "data", **servers) as up:
        assert httpx.get(f"{up.base_url}/readyz").status_code == 200
        assert up.end() == (0, "")
        assert {line["process"] for line in up.log()} >= {"up", "serve"}
        assert {line["level"] for line in up.log()} <= {"info"}, "127.0.0.1 without TLS is warned of"
        (stopped,) = [line for line in up.log() if "changes_not_in_ledger" in line]
        assert (stopped["event"], stopped["changes_not_in_ledger"]) == ("stopped: every change is in the ledger", 0)


async def test_at_its_stop_it_says_what_is_not_in_the_ledger(
    tmp_path: Path, servers: dict[str, str], redis: Redis
) -> None:
    with upped(tmp_path / "data", **servers, HONGBAO_SWEEP_INTERVAL_S="1") as up:
        ignored = [line["process"] for line in up.log() if line["event"] == "a setting is ignored"]
        assert ignored == ["up"]  # once, not for each child
        await command(redis, "XADD", keys.events(0), "3-0", "event", "no event")  # before which the persister stops
        await command(redis, "HSET", keys.lane(0), "position", 3)
        assert up.end()[0] == 0
        (stopped,) = [line for line in up.log() if "changes_not_in_ledger" in line]
        assert (stopped["level"], stopped["changes_not_in_ledger"]) == ("warning", 3)


@pytest.mark.parametrize("paused", [Paused.OTHER_EPOCH, Paused.LOST])
async def test_a_lane_that_stays_as_it_is_is_said_in_one_sentence(
    tmp_path: Path, servers: dict[str, str], settings: Settings, redis: Redis, paused: Paused
) -> None:
    """A Redis of another ledger; and one that is empty, where nothing is rebuilt without being asked for."""
    more = {}
    async with Engine.open(settings):  # the lanes are begun
        if paused is Paused.LOST:
            await command(redis, "DEL", keys.lane(0))
            more["HONGBAO_RECOVER_AUTOMATICALLY"] = "false"
        else:
            await command(redis, "HSET", keys.lane(0), "epoch", "0123456789abcdef0123456789abcdef", "position", 7)
    ended = hongbao("up", "--port", "0", "--data-dir", tmp_path / "data", **servers, **more)
    said = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert (ended.returncode, ended.stdout, len(said)) == (1, "", 1), ended.stderr
    assert said[0].startswith("hongbao: The API is not ready after ")
    assert f"Lane 0 {WHY[paused]}" in said[0]
    assert "run `hongbao recover`" in said[0]
    assert sum("persister_error" in line for line in ended.stderr.splitlines()) == 1


def test_two_workers_serve_from_two_processes_on_the_servers_there_are(tmp_path: Path, servers: dict[str, str]) -> None:
    with upped(tmp_path / "data", "--workers", "2", HONGBAO_PERSISTERS="2", **servers) as up:
        assert sorted(up.pids()) == ["persist-1", "persist-2", "serve-1", "serve-2", "sweep"]
        assert len(up.family()) == 5
        words = [psutil.Process(up.pids()[f"persist-{number}"]).cmdline()[-2:] for number in (1, 2)]
        assert words == [["--share", "1/2"], ["--share", "2/2"]]
        assert {path.name for path in up.data_dir.iterdir()} == {"auth-secrets", "run"}
        port = int(up.base_url.rpartition(":")[2])
        clients = [httpx.Client(base_url=up.base_url) for _ in range(64)]
        try:
            assert {client.get("/livez").status_code for client in clients} == {200}
            for name in ("serve-1", "serve-2"):
                connections = psutil.Process(up.pids()[name]).net_connections("tcp")
                held = [held for held in connections if held.status == "ESTABLISHED" and held.laddr.port == port]
                assert len(held) >= 8, name
        finally:
            for client in clients:
                client.close()


async def deposited(client: Client, user: str, key: dict[str, str]) -> tuple[int, object]:
    """What a deposit of 5 fen is answered, each time the same."""
    headers = client.as_user("root", "admin") | key
    answer = await client.http.post(f"/v1/wallets/{user}/deposits", json={"amount_fen": 5}, headers=headers)
    return answer.status_code, answer.json()


async def test_a_second_start_has_everything_and_a_clean_audit(data_dir: Path) -> None:
    key = new_key()
    with upped(data_dir, "--workers", "2") as up:
        client = up.client()
        async with client.http:
            packet_id = await client.send("alice", count=3, total_fen=900)
            told = await client.claim(packet_id, "bob")
            await credited(client, "bob", told["amount_fen"])
            stored = await deposited(client, "frank", key)
        assert up.end(signal.SIGINT) == (0, "")
    with upped(data_dir) as up:
        client = up.client()
        async with client.http:
            again = await client.claim(packet_id, "bob")
            assert again == {**told, "outcome": "already_claimed"}
            assert await deposited(client, "frank", key) == stored
            assert await wallet_fen(client, "frank") == 5
            others = [await client.claim(packet_id, user) for user in ("carol", "dave", "erin")]
            assert [other["outcome"] for other in others] == ["claimed", "claimed", "sold_out"]
            assert told["amount_fen"] + sum(other["amount_fen"] for other in others) == 900
            await credited(client, "dave", others[1]["amount_fen"])
            assert await wallet_fen(client, "bob") == told["amount_fen"]
            while_up = hongbao("audit", "--data-dir", data_dir)
        assert up.end() == (0, "")
    assert not embedded.is_running(data_dir)
    after = hongbao("audit", "--data-dir", data_dir)
    for audited in (while_up, after):
        assert audited.returncode == 0, audited.stdout + audited.stderr
        scope, *lines = audited.stdout.splitlines()
        assert scope.startswith("What came after " if audited is after else "All history ")
        assert len(lines) >= 8
        assert all(line.startswith("ok ") for line in lines)
    assert embedded.running(data_dir) == (None, None)


@pytest.mark.timeout(180)
async def test_a_stop_signal_at_any_moment_of_the_start_leaves_nothing(data_dir: Path) -> None:
    for place, moment in enumerate(MOMENTS):
        sign = data_dir / "run" / moment
        sign.unlink(missing_ok=True)
        with kept("up", "--port", "0", data_dir=data_dir) as up:
            await wait_until(sign.exists, timeout_s=30, what=moment)
            assert up.end([signal.SIGTERM, signal.SIGINT][place % 2]) == (0, ""), moment
            said = [line["event"] for line in up.log()]
            # The lock is taken before there is anything to stop; until then it ends without a word.
            assert said[-1:] in ([["stopping"], ["stopped"], []] if moment == "lock" else [["stopping"], ["stopped"]])
    with upped(data_dir) as up:
        assert up.end() == (0, "")


def test_a_signal_before_anything_is_started_ends_it_quietly(tmp_path: Path, servers: dict[str, str]) -> None:
    """The address is looked up first; a name of a test's own holds it there until the signal has come."""
    code = (
        "import os, signal, engine.supervision.ports, engine.running.up, engine.cli.main\n"
        "def stuck(host, port): os.kill(os.getpid(), signal.{0}); signal.pause()\n"
        "engine.supervision.ports.held = stuck\n"
        "engine.cli.main.main()"
    )
    for number in ("SIGINT", "SIGTERM"):
        finished = hongbao_code(code.format(number), "up", "--data-dir", tmp_path / "data", **servers)
        assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")


async def test_every_child_that_is_killed_comes_back_and_nothing_is_lost(data_dir: Path) -> None:
    with upped(data_dir) as up:
        client = up.client()
        async with client.http:
            packet_id = await client.send("alice", count=50, total_fen=5_000)
            told: dict[str, int] = {}
            for name in CHILDREN:
                before, after = f"before-{name}", f"after-{name}"
                told[before] = await through_trouble(client, packet_id, before)
                await kill_and_await_another(up, name)
                told[after] = await through_trouble(client, packet_id, after)
                assert await through_trouble(client, packet_id, before) == told[before]
            for user, amount_fen in told.items():
                await credited(client, user, amount_fen)
        restarted = [line["child"] for line in up.log() if line["event"] == "child restarted"]
        assert restarted == CHILDREN
        audited = hongbao("audit", "--data-dir", data_dir)
        assert audited.returncode == 0, audited.stdout + audited.stderr
        assert up.end() == (0, "")


async def kill_and_await_another(up: Up, name: str) -> None:
    """Until it can work: one that still starts while the next server is away ends, and is started once more."""
    killed = up.pids()[name]
    os.kill(killed, signal.SIGKILL)

    def is_there() -> bool:
        pid = up.pids().get(name, killed)
        return pid != killed and (name in SERVERS or report.is_ready(up.data_dir / "run" / f"{name}.report", pid))

    await wait_until(is_there, timeout_s=20, what=f"another {name}")


async def test_while_a_server_hangs_requests_are_refused_in_time(data_dir: Path) -> None:
    with upped(data_dir, HONGBAO_REDIS_TIMEOUT_S="0.5", HONGBAO_DATABASE_TIMEOUT_S="0.5") as up:
        client = up.client()
        async with client.http:
            packet_id = await client.send("alice", count=50, total_fen=5_000)
            told = await client.claim(packet_id, "bob")
            await credited(client, "bob", told["amount_fen"])
            with hanging(up, "redis"):
                refused = await client.http.post(
                    f"/v1/packets/{packet_id}/claims", headers=client.as_user("carol"), timeout=10
                )
            assert is_refused(refused)
            await credited(client, "carol", await through_trouble(client, packet_id, "carol"))
            with hanging(up, "postgres"):
                refused = await client.http.get("/v1/wallets/bob", headers=client.as_user("bob"), timeout=10)
            assert is_refused(refused)
            await credited(client, "dave", await through_trouble(client, packet_id, "dave"))
        assert up.end() == (0, "")


@contextmanager
def hanging(up: Up, name: str) -> Iterator[None]:
    """A server that takes connections and does nothing, with all its processes, until the end of the block."""
    family = [up.pids()[name], *(child.pid for child in psutil.Process(up.pids()[name]).children())]
    for pid in family:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in family:
            os.kill(pid, signal.SIGCONT)


async def test_a_worker_that_cannot_start_makes_up_fail(tmp_path: Path, servers: dict[str, str]) -> None:
    nowhere = {**servers, "HONGBAO_REDIS_URL": "redis://127.0.0.1:1"}
    finished = hongbao("up", "--port", "0", "--data-dir", tmp_path / "data", **nowhere)
    assert re.fullmatch(r"persist did not start: Redis does not answer: .*127\.0\.0\.1:1.*\.", sentence(finished))
    assert list((tmp_path / "data" / "run").glob("*.pid")) == []


def test_a_worker_that_crashes_at_its_start_makes_up_fail(tmp_path: Path, servers: dict[str, str]) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import sys\nif sys.orig_argv[3:4] == ['sweep']:\n    sys.exit('this sweeper is broken')\n", encoding="utf-8"
    )
    finished = hongbao("up", "--port", "0", "--data-dir", tmp_path / "data", PYTHONPATH=str(broken), **servers)
    assert (finished.returncode, finished.stdout) == (1, "")
    assert finished.stderr.splitlines()[-1] == "hongbao: sweep did not start: it ended with exit code 1."
