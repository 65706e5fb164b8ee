"""Client certificates: by the server's own TLS, or by the header of a proxy that is believed."""

import base64
import hashlib
import ssl
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
import trustme
from starlette.types import Scope

from api.certificates import EXTENSION, Certificates, digest_in
from engine.access import tls
from engine.engine import Engine
from engine.errors import OperatorError
from engine.settings import Settings
from tests.support.front import Client, open_front, spawn
from tests.support.ports import held_port
from tests.support.scenes import changed
from tests.support.waiting import wait_until
from tests.support.wechatpay import SENDREDPACK, merchant_of, packet, signed, told, with_sealing, xml_of

DER = ssl.PEM_cert_to_DER_cert(trustme.CA().cert_pem.bytes().decode())
PEM = ssl.DER_cert_to_PEM_cert(DER)
DIGEST = hashlib.sha256(DER).hexdigest()
PRODUCTION = {"wechatpay_production": True}


def test_a_header_has_one_of_three_forms() -> None:
    colons = ":".join(DIGEST[place : place + 2] for place in range(0, 64, 2)).upper()
    for text in (
        DIGEST,
        DIGEST.upper(),
        colons,
        quote(PEM),
        PEM.replace("\n", "\r\n"),
        f":{base64.b64encode(DER).decode()}:",
    ):
        assert digest_in(text) == DIGEST
    for text in (
        "",
        "x",
        DIGEST[1:],
        f"{DIGEST}0",
        "::",
        ":!:",
        quote(PEM)[:-20],
        "%ff",
        "-" * 20_000,
        DIGEST.replace("a", "ａ"),
    ):
        assert digest_in(text) != DIGEST


def scope_of(peer: str, *headers: tuple[bytes, bytes], der: bytes | None = None) -> Scope:
    return {"client": (peer, 1), "headers": list(headers), "extensions": {} if der is None else {EXTENSION: der}}


def test_only_named_proxies_are_believed(settings: Settings) -> None:
    named = (b"x-client-cert", DIGEST.encode())
    certificates = Certificates(changed(settings, wechatpay_certificate_proxies="192.0.2.0/24,2001:db8::1"))
    for proxy in ("192.0.2.9", "::ffff:192.0.2.9", "2001:db8::1"):
        assert certificates.of(scope_of(proxy, named)) == DIGEST
        assert certificates.of(scope_of(proxy)) is None
        assert certificates.of(scope_of(proxy, named, named)) is None, "a header that came twice"
        assert certificates.of(scope_of(proxy, der=DER)) is None, "the proxy's own is not its clients'"
    for other in ("198.51.100.1", "", "unix"):
        assert certificates.of(scope_of(other, named)) is None
        assert certificates.of(scope_of(other, named, der=DER)) == DIGEST
    assert Certificates(settings).of(scope_of("192.0.2.9", named)) is None


async def sent(client: Client, key: str, **headers: str) -> str:
    answer = await client.http.post(SENDREDPACK, content=xml_of(signed(packet(), key)), headers=headers)
    return told(answer.content).get("err_code", "SUCCESS")


async def test_in_production_the_merchants_certificate_is_needed(settings: Settings) -> None:
    settings = with_sealing(settings, **PRODUCTION, wechatpay_certificate_proxies="127.0.0.1")
    async with open_front(settings) as client, Engine.open(settings) as engine:
        key = (await merchant_of(engine, certificates=[DIGEST])).v2_key or ""
        assert await sent(client, key) == "CA_ERROR"
        assert await sent(client, key, **{"x-client-cert": "ab" * 32}) == "CA_ERROR"
        assert await sent(client, key, **{"x-client-cert": quote(PEM)}) == "SUCCESS"
        assert await sent(client, "x" * 32, **{"x-client-cert": DIGEST}) == "SIGN_ERROR"
    async with open_front(settings) as client, Engine.open(settings) as engine:
        await engine.wechatpay_merchants.put("1900000109", "shop", appids=["wx8888888888888888"])
        assert await sent(client, key, **{"x-client-cert": DIGEST}) == "CA_ERROR", "it has none that is known"


async def test_a_merchant_with_a_certificate_needs_it_everywhere(settings: Settings) -> None:
    settings = with_sealing(settings, wechatpay_certificate_proxies="127.0.0.1", wechatpay_certificate_header="X-Cert")
    async with open_front(settings) as client, Engine.open(settings) as engine:
        key = (await merchant_of(engine, certificates=[DIGEST])).v2_key or ""
        assert await sent(client, key, **{"x-client-cert": DIGEST}) == "CA_ERROR"
        assert await sent(client, key, **{"x-cert": DIGEST}) == "SUCCESS"


@pytest.mark.long
async def test_by_the_servers_own_tls(settings: Settings, tmp_path: Path) -> None:
    servers, clients, others = trustme.CA(), trustme.CA(), trustme.CA()
    issued = servers.issue_cert("127.0.0.1")
    certificate, key_path, authority = tmp_path / "own.pem", tmp_path / "own.key", tmp_path / "ca.pem"
    certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(key_path))
    key_path.chmod(0o600)
    clients.cert_pem.write_to_path(str(authority))
    merchant, stranger = clients.issue_cert("merchant"), others.issue_cert("merchant")
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(merchant.cert_chain_pems[0].bytes().decode())).hexdigest()

    def context(issued: trustme.LeafCert | None) -> ssl.SSLContext:
        made = ssl.create_default_context()
        servers.configure_trust(made)
        if issued is not None:
            issued.configure_cert(made)
        return made

    with held_port() as port:
        values = {"tls_certificate": certificate, "tls_key": key_path, "wechatpay_client_ca": authority, "port": port}
        settings = with_sealing(settings, **PRODUCTION, **values)
        process = spawn(settings)
        base_url = f"https://127.0.0.1:{port}"
        try:
            async with (
                Engine.open(settings) as engine,
                httpx.AsyncClient(base_url=base_url, verify=context(None)) as plain,
            ):

                async def is_ready() -> bool:
                    try:
                        return (await plain.get("/readyz")).status_code == 200
                    except httpx.TransportError:
                        assert process.returncode is None, process.said()
                        return False

                await wait_until(is_ready, timeout_s=20, what="the server being ready")
                key = (await merchant_of(engine, certificates=[digest])).v2_key or ""
                assert await sent(Client(plain, b""), key, **{"x-client-cert": digest}) == "CA_ERROR"
                async with httpx.AsyncClient(base_url=base_url, verify=context(merchant)) as http:
                    assert await sent(Client(http, b""), key) == "SUCCESS"
                    assert await sent(Client(http, b""), key) == "SUCCESS", "the second request of a connection"
                other_cert = clients.issue_cert("another")
                async with httpx.AsyncClient(base_url=base_url, verify=context(other_cert)) as http:
                    assert await sent(Client(http, b""), key) == "CA_ERROR"
                async with httpx.AsyncClient(base_url=base_url, verify=context(stranger)) as http:
                    with pytest.raises(httpx.TransportError):
                        await sent(Client(http, b""), key)
        finally:
            process.kill()
            await process.wait()


def test_production_without_a_way_to_certificates_does_not_start() -> None:
    with pytest.raises(ValueError, match="HONGBAO_WECHATPAY_CLIENT_CA or"):
        Settings.model_validate(PRODUCTION)


def test_authorities_that_are_none_stop_the_start(tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("127.0.0.1")
    certificate, key = tmp_path / "own.pem", tmp_path / "own.key"
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    key.chmod(0o600)
    (tmp_path / "empty.pem").write_text("none", encoding="utf-8")
    for name in ("missing.pem", "empty.pem"):
        values = {"tls_certificate": certificate, "tls_key": key, "wechatpay_client_ca": tmp_path / name}
        with pytest.raises(OperatorError, match="HONGBAO_WECHATPAY_CLIENT_CA"):
            tls.server_context(Settings.model_validate(values))
