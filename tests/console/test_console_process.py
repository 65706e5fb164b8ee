"""The console as a process: under `hongbao up` and by itself, its first operator, its commands, its stop."""

import asyncio
import contextlib
import signal
import socket
import ssl
from pathlib import Path

import httpx
import orjson
import pytest
import trustme
from cryptography import x509

from api.console import server
from engine.settings import Settings
from tests.support.commands import hongbao, kept, sentence, upped
from tests.support.console import SAME_ORIGIN, serving_console, spawn_console
from tests.support.console_served import served_console
from tests.support.ports import held_port
from tests.support.waiting import wait_until


@pytest.fixture
def servers(settings: Settings) -> dict[str, str]:
    """The variables that name the tests' own servers."""
    return {"HONGBAO_REDIS_URL": settings.redis_url or "", "HONGBAO_DATABASE_URL": settings.database_url or ""}


@pytest.mark.long
def test_up_says_where_the_console_is_and_how_the_first_operator_begins(
    tmp_path: Path, servers: dict[str, str]
) -> None:
    data_dir = tmp_path / "data"
    with held_port() as port, upped(data_dir, **servers, HONGBAO_CONSOLE_PORT=str(port)) as up:
        assert up.process.stdout is not None
        assert up.process.stdout.readline() == f"console http://127.0.0.1:{port}\n"
        words = up.process.stdout.readline().split()
        assert words[:2] == ["first", "operator"]
        assert words[3:] == ["(within", "ten", "minutes,", "once)"]
        page = httpx.get(words[2])
        assert page.status_code == 200
        assert "admin" in page.text
        assert httpx.get(f"http://127.0.0.1:{port}/").headers["location"] == "/login"
        assert 'process="console"' in httpx.get(f"http://127.0.0.1:{port}/metrics").text
        at = ("--data-dir", data_dir)
        done = hongbao("console", "add-operator", "ann", "--role", "finance", "--json", *at, **servers)
        added = orjson.loads(done.stdout)
        assert added["link"].startswith(f"http://127.0.0.1:{port}/setup/")
        assert httpx.get(added["link"]).status_code == 200
        again = orjson.loads(hongbao("console", "reset-operator", "ann", "--json", *at, **servers).stdout)
        assert httpx.get(added["link"]).status_code == 404
        assert httpx.get(again["link"]).status_code == 200
        assert hongbao("console", "disable-operator", "ann", *at, **servers).returncode == 0
        assert httpx.get(again["link"]).status_code == 404
        listed = hongbao("console", "list-operators", *at, **servers).stdout.splitlines()
        assert listed == ["admin  admin  not set up yet", "ann  finance  disabled"]
        assert up.end()[0] == 0
        assert {"console"} <= {line["process"] for line in up.log()}


@pytest.mark.long
def test_a_name_is_never_given_twice_and_a_role_must_be_one(tmp_path: Path, servers: dict[str, str]) -> None:
    words = ("console", "add-operator", "ann", "--data-dir", tmp_path / "data")
    assert hongbao(*words, **servers).returncode == 0
    assert "names are never given twice" in sentence(hongbao(*words, **servers))
    wrong = hongbao("console", "add-operator", "b b", "--role", "king", "--data-dir", tmp_path / "data", **servers)
    assert sentence(wrong).startswith("name: must be 1 to 64 letters")
    unknown = hongbao("console", "disable-operator", "bob", "--data-dir", tmp_path / "data", **servers)
    assert sentence(unknown) == "There is no operator bob."


@pytest.mark.long
def test_a_port_that_is_taken_is_one_sentence(tmp_path: Path, servers: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        words = ("--port", "0", "--data-dir", tmp_path / "data")
        said = sentence(hongbao("up", *words, **servers, HONGBAO_CONSOLE_PORT=str(port)))
        assert said.startswith(f"The console cannot listen on 127.0.0.1 port {port}: free it, or set ")
        alone = hongbao("console", "--port", str(port), "--data-dir", tmp_path / "data", **servers)
        assert sentence(alone).startswith(
            f"The console cannot listen on 127.0.0.1 port {port} (Address already in use)"
        )


@pytest.mark.long
async def test_off_loopback_it_needs_tls_or_a_proxy_that_has_it(tmp_path: Path, servers: dict[str, str]) -> None:
    words = ("console", "--host", "0.0.0.0", "--port", "0", "--data-dir", tmp_path / "data")
    said = sentence(hongbao(*words, **servers))
    assert said.startswith("The console does not listen on 0.0.0.0 without TLS, because others could read passwords: ")
    wrong = sentence(hongbao(*words, **servers, HONGBAO_CONSOLE_ORIGIN="http://console.example"))
    assert wrong.startswith("HONGBAO_CONSOLE_ORIGIN cannot be used: it must be https:// and a host")
    more = {**servers, "HONGBAO_CONSOLE_ORIGIN": "https://console.example"}
    (tmp_path / "data").mkdir(exist_ok=True)
    on = ("--host", "0.0.0.0", "--port")
    with held_port() as port, kept("console", *on, str(port), data_dir=tmp_path / "data", **more) as running:

        def answer() -> httpx.Response | None:
            try:
                return httpx.get(f"http://127.0.0.1:{port}/login", headers={"host": "console.example"})
            except httpx.TransportError:
                assert running.process.poll() is None
                return None

        found = await wait_until(answer, what="the console")
        assert found is not None
        assert found.status_code == 200
        assert found.headers["strict-transport-security"]
        assert (await asyncio.to_thread(httpx.get, f"http://127.0.0.1:{port}/login")).status_code == 421


async def test_who_holds_connections_open_keeps_nobody_out(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody needs a session to connect: without a bound on heads, some hundred sockets would be the console's end."""
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 4)
    monkeypatch.setattr(server, "HEAD_S_MAX", 0.3)
    late_body = b"GET /livez HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n"
    async with served_console(settings) as served:
        port = int(served.origin.rpartition(":")[2])
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        held[1][1].write(b"GET / HTTP/1.1\r\n")
        held[2][1].write(late_body)
        await held[2][0].readuntil(b"live\n")
        held[2][1].write(b"1")

        async def is_live() -> bool:
            async with httpx.AsyncClient() as http:
                return (await http.get(f"{served.origin}/livez")).status_code == 200

        assert not await is_live()
        await wait_until(is_live, timeout_s=5, what="the console answering again")
        for reader, writer in held:
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()


async def test_it_stops_cleanly_and_answers_what_is_in_progress(settings: Settings) -> None:
    async with serving_console(settings) as (origin, process), httpx.AsyncClient(base_url=origin) as http:
        assert (await http.get("/livez")).status_code == 200
        assert (await http.get("/login", headers={"host": "evil.example"})).status_code == 421
        head = {"x-long": "x" * 400_000}
        assert (await http.get("/livez", headers=head)).status_code in (400, 431)
        refused = await http.post("/login", headers={**SAME_ORIGIN, "sec-fetch-site": "cross-site"})
        assert refused.status_code == 403
        process.send_signal(signal.SIGTERM)

        async def is_gone() -> bool:
            return process.returncode is not None

        await wait_until(is_gone, timeout_s=15, what="the console's end")
        assert process.returncode == 0


async def test_it_speaks_tls_and_reads_a_new_certificate(settings: Settings, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate, key = tmp_path / "own.pem", tmp_path / "own.key"

    def write() -> int:
        issued = authority.issue_cert("127.0.0.1")
        certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        key.chmod(0o600)
        return x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number

    first = write()
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    with held_port() as port:
        files = {"tls_certificate": certificate, "tls_key": key, "console_port": port}
        process = spawn_console(settings.model_copy(update=files))
        try:

            def serial_number() -> int:
                try:
                    with (
                        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
                        trust.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
                    ):
                        shown = secure.getpeercert(binary_form=True)
                except OSError:
                    assert process.returncode is None, process.said()
                    return 0
                return x509.load_der_x509_certificate(shown or b"").serial_number

            assert await wait_until(serial_number, what="the console") == first
            async with httpx.AsyncClient(base_url=f"https://127.0.0.1:{port}", verify=trust) as http:
                answer = await http.get("/login")
                assert answer.status_code == 200
                assert answer.headers["strict-transport-security"]
                origin = {"origin": f"https://127.0.0.1:{port}"}
                assert (await http.post("/login", headers=origin)).status_code == 403  # nobody has no name
                assert (await http.post("/login", headers={"origin": "http://127.0.0.1"})).status_code == 403
            second = write()
            process.send_signal(signal.SIGHUP)
            await wait_until(lambda: serial_number() == second, what="the new certificate")
        finally:
            process.kill()
            await process.wait()
