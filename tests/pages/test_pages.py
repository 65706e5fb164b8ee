"""The pages as bytes: in both languages, compressed or not, kept by browsers, under a policy that lets nothing in."""

import gzip
import re
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from api.pages.building import LANGUAGES
from api.pages.codes import qr_svg
from api.pages.serving import PATHS, language_of
from engine.settings import Settings
from tests.support.asking import UNKNOWN
from tests.support.front import serving
from tests.support.scenes import changed

pytestmark = pytest.mark.asyncio(loop_scope="module")
PACKET, CAMPAIGN = f"/p/{UNKNOWN}", "/c/1"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(shared_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(shared_settings) as (client, _), httpx.AsyncClient(base_url=client.http.base_url) as http:
        yield http


@pytest.mark.parametrize("path", [PACKET, CAMPAIGN])
async def test_a_page_is_there_without_a_token_and_allows_only_itself(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert not re.search(r"unsafe|\*|https?:", policy)
    assert "{{" not in answer.text
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", answer.text)
    assert (await http.head(path)).headers["content-length"] == answer.headers["content-length"]


async def test_it_is_compressed_for_those_who_take_it_and_sent_once(http: httpx.AsyncClient) -> None:
    plain = await http.get(PACKET, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    for accepted in ("gzip", "br, gzip;q=0.5", "*"):
        async with http.stream("GET", PACKET, headers={"accept-encoding": accepted}) as answer:
            raw = b"".join([piece async for piece in answer.aiter_raw()])
        assert answer.headers["content-encoding"] == "gzip"
        assert gzip.decompress(raw) == plain.content
        assert len(raw) == int(answer.headers["content-length"]) <= 14_000
        assert answer.headers["etag"] != plain.headers["etag"]
    assert plain.headers["cache-control"] == "public, max-age=300"
    assert plain.headers["vary"] == "accept-encoding, accept-language"
    for known in (plain.headers["etag"], f'"x", W/{plain.headers["etag"]}', "*"):
        again = await http.get(PACKET, headers={"accept-encoding": "identity", "if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", plain.headers["etag"])
        assert "content-length" not in again.headers
    other = await http.get(PACKET, headers={"accept-encoding": "gzip", "if-none-match": plain.headers["etag"]})
    assert other.status_code == 200
    assert (await http.get(f"/p/{int(UNKNOWN) + 1}", headers={"accept-encoding": "identity"})).content == plain.content


@pytest.mark.parametrize(
    ("query", "accepted", "language"),
    [
        ("", "", "zh"),
        ("", "en-US,en;q=0.9,zh;q=0.8", "en"),
        ("", "zh-CN,en;q=0.9", "zh"),
        ("", "fr, en;q=0.1", "en"),
        ("", "fr", "zh"),
        ("", "en;q=x", "zh"),
        ("lang=en", "zh-CN", "en"),
        ("a=1&lang=zh", "en", "zh"),
        ("lang=fr", "en", "en"),
    ],
)
async def test_a_page_is_in_the_readers_language(query: str, accepted: str, language: str) -> None:
    assert language_of(query.encode(), accepted.encode()) == language


async def test_each_language_has_its_page(http: httpx.AsyncClient) -> None:
    pages = [(await http.get(f"{PACKET}?lang={language}")).text for language in LANGUAGES]
    assert '<html lang="zh-CN">' in pages[0]
    assert '<html lang="en">' in pages[1]
    assert "<title>红包</title>" in pages[0]
    assert "<title>Red packet</title>" in pages[1]


async def test_a_number_that_is_none_is_a_page_for_people_and_a_problem_for_programs(http: httpx.AsyncClient) -> None:
    for path in ("/p/12", "/p/x%3Cb%3E", "/c/0", "/c/x"):
        answer = await http.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert "<b>" not in answer.text
        code = await http.get(f"{path}/qr.svg")
        assert (code.status_code, code.headers["content-type"]) == (404, "application/problem+json")
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        for path in PATHS:
            answer = await http.request(method, path.format(packet_id=UNKNOWN, campaign_id=1), content=b"x" * 1_000)
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert (await http.get(PACKET)).status_code == 200


async def test_a_code_is_of_the_address_that_was_asked_and_of_no_other(http: httpx.AsyncClient) -> None:
    for path in (PACKET, CAMPAIGN):
        answer = await http.get(f"{path}/qr.svg?t=secret", headers={"host": "hongbao.example.org:8443"})
        assert answer.headers["content-type"] == "image/svg+xml"
        assert answer.content == qr_svg(f"http://hongbao.example.org:8443{path}")
        assert answer.content.startswith(b"<svg ")
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    for host in ("a b", "x/y", 'x"y', "user@x", "[::1", "x:port", "x" * 300, "é"):
        answer = await http.get(f"{PACKET}/qr.svg", headers={b"host": host.encode()})
        assert answer.status_code == 400, host
    for host in ("[::1]:8080", "10.0.0.7", "localhost:80"):
        assert (await http.get(f"{PACKET}/qr.svg", headers={"host": host})).status_code == 200


async def test_settings_name_the_public_address_and_where_to_sign_in(shared_settings: Settings) -> None:
    public = {"public_url": "https://hongbao.example.org", "sign_in_url": 'https://shop.example.org/wechat?a=1&b="2'}
    with pytest.raises(ValueError, match="sign_in_url"):
        changed(shared_settings, **public)
    settings = changed(shared_settings, **public | {"sign_in_url": "https://shop.example.org/wechat?a=1&b=2"})
    async with serving(settings) as (client, _):
        answer = await client.http.get(f"{PACKET}/qr.svg", headers={"host": "evil.example.org"})
        assert answer.content == qr_svg(f"https://hongbao.example.org{PACKET}")
        page = (await client.http.get(PACKET)).text
        assert 'data-sign-in="https://shop.example.org/wechat?a=1&amp;b=2"' in page
