"""TLS: what is served with, what is refused at the start, and what is said when there is none."""

import asyncio
import contextlib
import errno
import os
import signal
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import trustme
from structlog.testing import capture_logs

from api.server import serve
from engine.access import tls
from engine.access.tokens import issue, load_secret
from engine.doctor import machine_checks
from engine.doctor.lines import Level, Line
from engine.embedded import servers
from engine.errors import OperatorError
from engine.observability import metrics
from engine.settings import Settings
from tests.support.commands import hongbao, kept, sentence
from tests.support.front import new_key
from tests.support.ports import held_port
from tests.support.scenes import changed
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(authority: trustme.CA, tmp_path: Path) -> tuple[Path, Path]:
    """A certificate with its chain, and its key."""
    return written(authority, tmp_path, "own")


@pytest.fixture
def data_dir(quick_path: Path) -> Iterator[Path]:
    path = quick_path / "data"
    yield path
    servers.remove(path)


def written(
    authority: trustme.CA,
    folder: Path,
    name: str,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
) -> tuple[Path, Path]:
    issued = authority.issue_cert("localhost", "127.0.0.1", not_before=not_before, not_after=not_after)
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(key))
    key.chmod(0o600)
    return certificate, key


def settings_of(certificate: Path | None, key: Path | None) -> Settings:
    return Settings.model_validate({"tls_certificate": certificate, "tls_key": key})


def test_without_a_certificate_there_is_no_tls() -> None:
    settings = settings_of(None, None)
    assert (tls.server_context(settings), tls.client_context(settings), tls.is_on(settings)) == (None, None, False)


def test_old_versions_are_not_spoken(files: tuple[Path, Path]) -> None:
    context = tls.server_context(settings_of(*files))
    assert context is not None
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_what_cannot_be_served_with_is_told_in_one_sentence(
    files: tuple[Path, Path], authority: trustme.CA, tmp_path: Path
) -> None:
    certificate, key = files
    _, other_key = written(authority, tmp_path, "other")
    garbage, absent, open_key, locked = (tmp_path / name for name in ("garbage", "absent", "open", "locked"))
    garbage.write_text("no PEM", encoding="utf-8")
    garbage.chmod(0o600)
    open_key.write_bytes(key.read_bytes())
    open_key.chmod(0o604)
    locked.write_bytes(with_password(key))
    locked.chmod(0o600)
    for given, said in (
        ((certificate, None), "set HONGBAO_TLS_KEY as well"),
        ((None, key), "set HONGBAO_TLS_CERTIFICATE as well"),
        ((absent, key), f"HONGBAO_TLS_CERTIFICATE {absent} cannot be read: {os.strerror(errno.ENOENT)}."),
        ((certificate, absent), f"HONGBAO_TLS_KEY {absent} cannot be read: {os.strerror(errno.ENOENT)}."),
        ((certificate, tmp_path), f"HONGBAO_TLS_KEY {tmp_path} cannot be read: {os.strerror(errno.EISDIR)}."),
        ((certificate, open_key), f"Others can read HONGBAO_TLS_KEY {open_key}: chmod 600 it."),
        ((certificate, other_key), f"HONGBAO_TLS_KEY {other_key} is not the key of HONGBAO_TLS_CERTIFICATE"),
        ((garbage, key), "cannot be used: the one must be a certificate in PEM"),
        ((certificate, garbage), "cannot be used: the one must be a certificate in PEM"),
        ((certificate, locked), "without a password"),
    ):
        with pytest.raises(OperatorError) as refused:
            tls.server_context(settings_of(*given))
        assert said in str(refused.value)


def with_password(key: Path) -> bytes:
    from cryptography.hazmat.primitives import serialization

    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    return loaded.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"hush")
    )


def test_the_command_says_what_is_wrong_before_it_starts_anything(files: tuple[Path, Path], tmp_path: Path) -> None:
    variables = {"HONGBAO_TLS_CERTIFICATE": str(files[0]), "HONGBAO_TLS_KEY": str(tmp_path / "absent")}
    said = sentence(hongbao("up", "--port", "0", "--data-dir", tmp_path / "data", **variables))
    assert said == f"HONGBAO_TLS_KEY {tmp_path / 'absent'} cannot be read: {os.strerror(errno.ENOENT)}."


@pytest.mark.long
async def test_everything_is_served_over_tls(
    files: tuple[Path, Path], authority: trustme.CA, data_dir: Path, redis_url: str, database_url: str
) -> None:
    variables = {
        "HONGBAO_TLS_CERTIFICATE": str(files[0]),
        "HONGBAO_TLS_KEY": str(files[1]),
        "HONGBAO_REDIS_URL": redis_url,
        "HONGBAO_DATABASE_URL": database_url,
    }
    with kept("up", "--port", "0", data_dir=data_dir, **variables) as running:
        assert running.process.stdout is not None
        line = running.process.stdout.readline()
        assert line.startswith("ready https://127.0.0.1:"), running.log_path.read_text(encoding="utf-8")
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        async with httpx.AsyncClient(base_url=line.split()[1], verify=trusting) as client:
            await claims_are_answered(client, load_secret(Settings(data_dir=data_dir, auth_secret=None)))
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.TransportError):
                await client.get(line.split()[1].replace("https:", "http:"))
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await client.get(line.split()[1])
        assert [entry for entry in running.log() if entry["level"] in ("warning", "error")] == []
        assert running.end()[0] == 0


async def claims_are_answered(client: httpx.AsyncClient, secret: bytes) -> None:
    """The long way and the short one, each with the header that says: never without TLS."""
    tokens = {
        user: {"authorization": f"Bearer {issue(secret, user, scopes, 60)}"}
        for user, scopes in (("root", ["admin"]), ("alice", ["send"]), ("bob", ["claim"]))
    }
    deposit, body = "/v1/wallets/alice/deposits", {"total_fen": 100, "count": 2, "split": "equal"}
    answers = [await client.post(deposit, json={"amount_fen": 100}, headers=tokens["root"] | new_key())]
    answers.append(await client.post("/v1/packets", json=body, headers=tokens["alice"] | new_key()))
    path = f"/v1/packets/{answers[-1].json()['packet_id']}/claims"
    answers += [await client.post(path, headers=tokens["bob"]) for _ in range(3)]
    answers.append(await client.get("/nowhere"))
    assert [answer.status_code for answer in answers] == [201, 201, 200, 200, 200, 404]
    assert [answer.json()["amount_fen"] for answer in answers[2:5]] == [50, 50, 50]
    assert {answer.headers["strict-transport-security"] for answer in answers} == {"max-age=31536000"}


def test_one_that_has_ended_or_not_begun_is_said_before_anything_is_started(
    authority: trustme.CA, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    for begins, ends, said in (
        (
            now - timedelta(days=9),
            now - timedelta(days=2),
            f"expired on {now - timedelta(days=2):%Y-%m-%d %H:%M} UTC: renew",
        ),
        (
            now + timedelta(days=2),
            now + timedelta(days=9),
            f"is valid from {now + timedelta(days=2):%Y-%m-%d %H:%M} UTC: wait",
        ),
    ):
        certificate, key = written(authority, tmp_path, "own", not_before=begins, not_after=ends)
        variables = {"HONGBAO_TLS_CERTIFICATE": str(certificate), "HONGBAO_TLS_KEY": str(key)}
        refused = sentence(hongbao("up", "--port", "0", "--data-dir", tmp_path / "data", **variables))
        assert refused.startswith(f"HONGBAO_TLS_CERTIFICATE {certificate} {said}")
    assert not (tmp_path / "data" / "postgres").exists()


@pytest.mark.long
def test_doctor_says_when_the_certificate_ends(authority: trustme.CA, tmp_path: Path, settings: Settings) -> None:
    def line(days: float) -> Line:
        certificate, key = written(authority, tmp_path, "own", not_after=datetime.now(UTC) + timedelta(days=days))
        lines = machine_checks.examine(changed(settings, tls_certificate=certificate, tls_key=key), is_embedded=False)
        return next(line for line in lines if line.name == "certificate")

    assert line(90.5).level is Level.OK
    assert " ends in 90 days, on " in line(90.5).found
    assert line(13.5).level is Level.WARNING
    assert line(-1).level is Level.PROBLEM


async def test_a_renewed_certificate_is_served_with_and_no_request_is_lost(
    authority: trustme.CA, tmp_path: Path, settings: Settings
) -> None:
    """A request is under way the whole time; one that cannot be used changes nothing."""
    certificate, key = written(authority, tmp_path, "own")
    served = changed(settings, tls_certificate=certificate, tls_key=key)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    def number_shown(port: int) -> int:
        with (
            socket.create_connection(("127.0.0.1", port)) as raw,
            trusting.wrap_socket(raw, server_hostname="127.0.0.1") as secured,
        ):
            return int(secured.getpeercert()["serialNumber"], 16)  # type: ignore[index, arg-type]

    with held_port() as port:
        ready = asyncio.Event()
        stopped = asyncio.create_task(serve(changed(served, port=port), ready.set))
        await asyncio.wait_for(ready.wait(), 30)
        async with httpx.AsyncClient(base_url=f"https://127.0.0.1:{port}", verify=trusting) as client:
            asked = 0

            async def ask() -> None:
                nonlocal asked
                while not stopped.done():
                    assert (await client.get("/livez")).status_code == 200
                    asked += 1

            asking = asyncio.create_task(ask())
            first = await asyncio.to_thread(number_shown, port)
            written(authority, tmp_path, "own")
            os.kill(os.getpid(), signal.SIGHUP)

            async def is_another() -> bool:
                return await asyncio.to_thread(number_shown, port) != first

            await wait_until(is_another, what="the new certificate")
            second = await asyncio.to_thread(number_shown, port)
            assert metrics.TLS_CERTIFICATE_ENDS._value.get() == tls.validity(certificate)[1].timestamp()
            certificate.write_text("no PEM", encoding="utf-8")
            with capture_logs() as logs:
                os.kill(os.getpid(), signal.SIGHUP)
                await wait_until(lambda: bool(logs), what="a log line")
            assert (logs[0]["event"], logs[0]["log_level"]) == ("the certificate stays as it was", "error")
            assert await asyncio.to_thread(number_shown, port) == second
            before = asked
            await wait_until(lambda: asked > before or asking.done(), what="another answer")
            assert not asking.done()
            os.kill(os.getpid(), signal.SIGTERM)
            with contextlib.suppress(httpx.TransportError):
                await asking
        await asyncio.wait_for(stopped, 30)


@pytest.mark.long
def test_an_open_door_is_warned_of(data_dir: Path, redis_url: str, database_url: str) -> None:
    """One that is open to this machine alone is not: tests/running/test_up.py."""
    variables = {"HONGBAO_HOST": "0.0.0.0", "HONGBAO_REDIS_URL": redis_url, "HONGBAO_DATABASE_URL": database_url}
    with kept("up", "--port", "0", data_dir=data_dir, **variables) as running:
        assert running.process.stdout is not None
        assert running.process.stdout.readline().startswith("ready http://0.0.0.0:")
        warnings = [entry for entry in running.log() if "without TLS" in str(entry["event"])]
        assert [(entry["level"], entry["host"]) for entry in warnings] == [("warning", "0.0.0.0")]
