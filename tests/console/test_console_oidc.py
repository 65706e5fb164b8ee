"""Single sign-on, whole: a real provider on a socket, and everything that must not let anybody in."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.responses import Response
from structlog.testing import capture_logs

from api.console.bounds import NOBODYS_A_MINUTE_MAX, TRIES_A_MINUTE_MAX
from api.console.gate import COOKIE
from api.console.openid import handshakes
from api.console.openid.opening import opened
from api.console.openid.provider import ANSWER_BYTES_MAX
from engine.errors import OperatorError
from engine.operators.accounts import TRIES_MAX
from engine.operators.roles import FINANCE, VIEWER
from engine.settings import Settings
from tests.support.commands import hongbao
from tests.support.console import ORIGIN, SAME_ORIGIN, Console, open_console
from tests.support.openid_provider import CLIENT_ID, CLIENT_SECRET, Json, OpenIdProvider, openid_provider
from tests.support.ports import held_port

OURS = handshakes.COOKIE
ENGLISH = {"accept-language": "en"}
BEGIN_AGAIN = "The provider of single sign-on has not signed you in. Begin again."
NOT_BEGUN_HERE = "This sign-in was not begun in this browser, or more than five minutes ago. Begin again."
NOBODY = "The provider has signed you in, but no operator may come in under that name. Ask an admin."


class Scene:
    """A console with a provider, and ann, whom both know. The provider asks for a second factor."""

    def __init__(self, console: Console, provider: OpenIdProvider, secret: str) -> None:
        self.console, self.provider, self.secret = console, provider, secret

    async def start(self, http: httpx.AsyncClient, wanted: str = "") -> str:
        """Where the console sends the browser."""
        answer = await http.get("/oidc/start", params={"next": wanted} if wanted else {}, headers=ENGLISH)
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    async def way_back(self, http: httpx.AsyncClient, wanted: str = "") -> str:
        """Where the provider sends the browser."""
        async with httpx.AsyncClient(trust_env=False) as browser:
            answer = await browser.get(await self.start(http, wanted))
        back: str = answer.headers["location"]
        assert back.startswith(f"{ORIGIN}/oidc/callback?")
        return back

    async def sign_in(self, http: httpx.AsyncClient, wanted: str = "") -> httpx.Response:
        return await http.get(await self.way_back(http, wanted), headers=ENGLISH)

    async def code(self) -> str:
        return await self.console.staff.code(self.secret, "ann")

    async def log(self) -> list[tuple[str, str, str]]:
        rows = await self.console.desk.engine.pool.fetch(
            "SELECT operator, outcome, told FROM operator_log WHERE action LIKE '%single sign-on' ORDER BY number"
        )
        return [tuple(row) for row in rows]

    async def is_refused(self, answer: httpx.Response, status: int, said: str, told: str) -> None:
        """Nobody is in, the handshake is forgotten, the page says it, and the log says why."""
        assert (answer.status_code, said in answer.text) == (status, True), answer.text
        cookies = answer.headers.get_list("set-cookie")
        assert not any(cookie.startswith(f"{COOKIE}=") for cookie in cookies)
        assert any(cookie.startswith(f'{OURS}="";') for cookie in cookies)
        assert await self.console.desk.engine.pool.fetchval("SELECT count(*) FROM operator_sessions") == 0
        _, outcome, why = (await self.log())[-1]
        assert outcome in ("refused", "failed")
        assert told in why


@asynccontextmanager
async def scene_of(settings: Settings, **more: str) -> AsyncIterator[Scene]:
    async with openid_provider() as provider:
        provider.person["amr"] = ["pwd", "otp"]
        async with open_console(provider.settings(settings, **more)) as console:
            _, secret = await console.staff.sign_up("ann", VIEWER)
            yield Scene(console, provider, secret)


@pytest.fixture
async def scene(settings: Settings) -> AsyncIterator[Scene]:
    async with scene_of(settings, second_factor="otp, urn:gold") as made:
        yield made


async def test_who_has_given_the_provider_a_second_factor_is_signed_in(scene: Scene) -> None:
    async with scene.console.browser() as http:
        page = await http.get("/login?next=/log", headers=ENGLISH)
        assert f'href="{ORIGIN}/oidc/start?next=/log"' in page.text
        assert "Sign in by single sign-on" in page.text
        answer = await scene.sign_in(http, "/log?outcome=ok&after=12")
        assert answer.status_code == 200  # a page of ours, from which a strict cookie is sent
        assert '<meta http-equiv="refresh" content="0;url=/log?outcome=ok&amp;after=12">' in answer.text
        (kept,) = [one for one in answer.headers.get_list("set-cookie") if one.startswith(f"{COOKIE}=")]
        attributes = {part.strip().lower() for part in kept.split(";")[1:]}
        assert attributes == {"secure", "httponly", "samesite=strict", "path=/"}
        assert (await http.get("/")).status_code == 200
        assert OURS not in http.cookies
        (session,) = await scene.console.desk.sessions.open_of("ann")
        await scene.console.desk.sessions.end(session.session_id)
        assert (await http.get("/")).status_code == 303
    assert await scene.log() == [("ann", "asked", "the provider has asked for a second factor"), ("ann", "ok", "")]
    rows = await scene.console.desk.engine.pool.fetch("SELECT number, about FROM operator_log ORDER BY number")
    assert rows[1]["about"] == rows[0]["number"]


async def test_each_sign_in_has_a_session_and_a_handshake_of_its_own(scene: Scene) -> None:
    async with scene.console.browser() as http:
        await scene.sign_in(http)
        first = http.cookies[COOKIE]
        queries = [parse_qs(urlsplit(await scene.start(http)).query) for _ in range(2)]
        await scene.sign_in(http)
        assert http.cookies[COOKIE] != first
    for name in ("state", "nonce", "code_challenge"):
        assert queries[0][name] != queries[1][name]
    assert queries[0]["redirect_uri"] == [f"{ORIGIN}/oidc/callback"]


async def test_the_handshake_is_in_a_cookie_for_minutes_that_nothing_can_read(scene: Scene) -> None:
    async with scene.console.browser() as http:
        answer = await http.get("/oidc/start")
        state = parse_qs(urlsplit(answer.headers["location"]).query)["state"][0]
        (cookie,) = answer.headers.get_list("set-cookie")
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert attributes == {"secure", "httponly", "samesite=lax", "path=/", "max-age=300"}
    assert cookie.startswith(f"{OURS}=")
    assert OURS.startswith("__Host-")
    assert state not in cookie


async def test_a_session_by_the_provider_alone_needs_our_code_for_money(settings: Settings) -> None:
    async with scene_of(settings, second_factor="otp") as scene:
        await scene.console.desk.operators.put_role("ann", FINANCE)
        async with scene.console.browser() as http:
            await scene.sign_in(http)
            session = await scene.console.desk.sessions.of(http.cookies[COOKIE])
            assert session is not None
            assert not session.is_proved


@pytest.mark.parametrize("factor", ["", "hwk"], ids=["none is accepted", "another is accepted"])
async def test_without_an_accepted_second_factor_our_code_is_asked_for(settings: Settings, factor: str) -> None:
    async with scene_of(settings, second_factor=factor) as scene, scene.console.browser() as http:
        answer = await scene.sign_in(http, "/log")
        assert (answer.status_code, answer.headers["location"]) == (303, "/oidc/code")
        assert COOKIE not in http.cookies
        assert (await http.get("/")).status_code == 303
        page = await http.get("/oidc/code", headers=ENGLISH)
        assert "The provider says that you are ann." in page.text
        headers = {**ENGLISH, **SAME_ORIGIN}
        wrong = await http.post("/oidc/code", data={"code": "000000"}, headers=headers)
        assert wrong.status_code == 403
        assert "The code is wrong, too old, or was used before." in wrong.text
        code = await scene.code()
        right = await http.post("/oidc/code", data={"code": code}, headers=headers)
        assert (right.status_code, right.headers["location"]) == (303, "/log")
        session = await scene.console.desk.sessions.of(http.cookies[COOKIE])
        assert session is not None
        assert session.is_proved
        again = await http.post("/oidc/code", data={"code": code}, headers=headers)
        assert NOT_BEGUN_HERE in again.text  # the handshake is over
        outcomes = [(name, outcome) for name, outcome, _ in await scene.log()]
        assert outcomes[:3] == [("ann", "asked"), ("ann", "refused"), ("ann", "ok")]
        assert code not in str(await scene.console.desk.engine.pool.fetch("SELECT * FROM operator_log"))


async def test_the_acr_counts_as_well(scene: Scene) -> None:
    scene.provider.person |= {"amr": ["pwd"], "acr": "urn:gold"}
    async with scene.console.browser() as http:
        assert (await scene.sign_in(http)).status_code == 200


async def test_wrong_codes_lock_the_operator_here_too(settings: Settings) -> None:
    async with scene_of(settings) as scene, scene.console.browser() as http:
        await scene.sign_in(http)
        for _ in range(TRIES_MAX - 1):
            answer = await http.post("/oidc/code", data={"code": "000000"}, headers=SAME_ORIGIN)
            assert answer.status_code == 403
        answer = await http.post("/oidc/code", data={"code": "000000"}, headers={**ENGLISH, **SAME_ORIGIN})
        await scene.is_refused(answer, 423, "There were too many wrong tries.", "sign_in_locked")
        await scene.is_refused(await scene.sign_in(http), 423, "There were too many wrong tries.", "sign_in_locked")


@pytest.mark.usefixtures("same_minute")
async def test_refusals_at_the_code_are_bounded_like_others_and_above_that_in_the_process_log(
    settings: Settings,
) -> None:
    async with scene_of(settings) as scene, scene.console.browser() as http, scene.console.browser() as stranger:
        await scene.sign_in(http)
        cookie = http.cookies[OURS]
        with capture_logs() as logs:
            for _ in range(NOBODYS_A_MINUTE_MAX + 10):
                http.cookies.set(OURS, cookie, domain="console.test", path="/")  # a refusal has forgotten it
                await http.post("/oidc/code", data={"code": "000000"}, headers=SAME_ORIGIN)
            for _ in range(10):
                assert (await stranger.get("/oidc/callback?code=1&state=2")).status_code == 403
        assert len(await scene.log()) == 1 + NOBODYS_A_MINUTE_MAX
        assert [event["event"] for event in logs] == ["too many refusals for the operator log"] * 20
        assert {event["action"] for event in logs} == {"sign in by single sign-on"}


@pytest.mark.usefixtures("same_minute")
async def test_a_way_back_that_is_walked_again_and_again_is_bounded(scene: Scene) -> None:
    """Each time the provider is asked, and a row says that somebody is coming in."""
    async with scene.console.browser() as http:
        back = await scene.way_back(http)
        cookie = http.cookies[OURS]
        statuses = []
        for _ in range(TRIES_A_MINUTE_MAX + 5):
            http.cookies.set(OURS, cookie, domain="console.test", path="/")  # the first time has forgotten it
            statuses.append((await http.get(back, headers=ENGLISH)).status_code)
    assert statuses[:2] == [200, 403]  # a code of the provider is used once
    assert statuses[-6:] == [429] * 6  # leaving was a try, too


async def test_an_operator_who_is_disabled_before_the_code_stays_out(settings: Settings) -> None:
    async with scene_of(settings) as scene, scene.console.browser() as http:
        await scene.sign_in(http)
        await scene.console.desk.operators.disable("ann")
        answer = await http.post("/oidc/code", data={"code": await scene.code()}, headers={**ENGLISH, **SAME_ORIGIN})
        await scene.is_refused(answer, 403, NOBODY, "disabled")


async def test_an_email_names_the_operator_if_it_is_verified(settings: Settings) -> None:
    async with scene_of(settings, second_factor="otp", claim="email") as scene, scene.console.browser() as http:
        await scene.console.staff.sign_up("ann@example.org", VIEWER)
        scene.provider.person |= {"email": "ann@example.org"}
        for said in ({}, {"email_verified": False}, {"email_verified": "true"}):
            scene.provider.person |= said
            await scene.is_refused(await scene.sign_in(http), 403, BEGIN_AGAIN, "was not verified")
        scene.provider.person["email_verified"] = True
        assert (await scene.sign_in(http)).status_code == 200
        assert len(await scene.console.desk.sessions.open_of("ann@example.org")) == 1


Back = Callable[[Scene, httpx.AsyncClient, str], Awaitable[httpx.Response]]


async def _wrong_state(_scene: Scene, http: httpx.AsyncClient, back: str) -> httpx.Response:
    return await http.get(re.sub("state=[^&]+", "state=another", back), headers=ENGLISH)


async def _no_state(_scene: Scene, http: httpx.AsyncClient, back: str) -> httpx.Response:
    return await http.get(re.sub("state=[^&]+&", "", back), headers=ENGLISH)


async def _another_browser(scene: Scene, _http: httpx.AsyncClient, back: str) -> httpx.Response:
    async with scene.console.browser() as other:
        return await other.get(back, headers=ENGLISH)


async def _forged_cookie(scene: Scene, _http: httpx.AsyncClient, back: str) -> httpx.Response:
    async with scene.console.browser() as other:
        other.cookies.set(OURS, "forged", domain="console.test")
        return await other.get(back, headers=ENGLISH)


async def _of_another_process(scene: Scene, _http: httpx.AsyncClient, back: str) -> httpx.Response:
    response = handshakes.Handshakes().put(Response(), handshakes.Leaving.of(""))
    async with scene.console.browser() as other:
        other.cookies.set(OURS, cookie_of(response.headers["set-cookie"]), domain="console.test")
        return await other.get(back, headers=ENGLISH)


def cookie_of(header: str) -> str:
    return header.partition("=")[2].partition(";")[0]


@pytest.mark.parametrize("come_back", [_wrong_state, _no_state, _another_browser, _forged_cookie, _of_another_process])
async def test_who_did_not_leave_from_this_browser_does_not_come_back(scene: Scene, come_back: Back) -> None:
    async with scene.console.browser() as http:
        answer = await come_back(scene, http, await scene.way_back(http))
    await scene.is_refused(answer, 403, NOT_BEGUN_HERE, "handshake_ended")
    assert len(scene.provider.codes) == 1  # the code was not even tried


async def test_a_handshake_is_too_old_after_five_minutes(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene.console.browser() as http:
        back = await scene.way_back(http)
        later = datetime.now(UTC) + timedelta(seconds=handshakes.LIFETIME_S + 5)
        monkeypatch.setattr("cryptography.fernet.time.time", later.timestamp)
        answer = await http.get(back, headers=ENGLISH)
        monkeypatch.undo()
    await scene.is_refused(answer, 403, NOT_BEGUN_HERE, "handshake_ended")


async def test_the_cookie_of_the_first_step_is_none_of_the_second(scene: Scene) -> None:
    async with scene.console.browser() as http:
        await scene.start(http)
        answer = await http.post("/oidc/code", data={"code": await scene.code()}, headers={**ENGLISH, **SAME_ORIGIN})
    await scene.is_refused(answer, 403, NOT_BEGUN_HERE, "another step")


async def test_a_code_that_was_used_is_refused(scene: Scene) -> None:
    async with scene.console.browser() as http:
        back = await scene.way_back(http)
        kept = http.cookies[OURS]
        assert (await http.get(back)).status_code == 200
        assert NOT_BEGUN_HERE in (await http.get(back, headers=ENGLISH)).text
        await scene.console.desk.engine.pool.execute("DELETE FROM operator_sessions")
    async with scene.console.browser() as http:  # somebody has both the address and the cookie
        http.cookies.set(OURS, kept, domain="console.test")
        await scene.is_refused(await http.get(back, headers=ENGLISH), 403, BEGIN_AGAIN, "400 invalid_grant")


@pytest.mark.parametrize(("checks_verifier", "told"), [(True, "invalid_grant"), (False, "nonce")])
async def test_the_code_of_another_handshake_is_refused(scene: Scene, checks_verifier: bool, told: str) -> None:
    """By the provider for its verifier or, if the provider does not look, by us for its nonce."""
    scene.provider.checks_verifier = checks_verifier
    async with scene.console.browser() as other, scene.console.browser() as http:
        stolen = parse_qs(urlsplit(await scene.way_back(other)).query)["code"][0]
        back = await scene.way_back(http)
        answer = await http.get(re.sub("code=[^&]+", f"code={stolen}", back), headers=ENGLISH)
    await scene.is_refused(answer, 403, BEGIN_AGAIN, told)


def _expired(claims: Json) -> Json:
    return {**claims, "iat": claims["iat"] - 900, "exp": claims["exp"] - 900}


def _without(name: str) -> Callable[[Json], Json]:
    return lambda claims: {key: value for key, value in claims.items() if key != name}


@pytest.mark.long
@pytest.mark.parametrize(
    "alter",
    [
        pytest.param(lambda claims: {**claims, "nonce": "another"}, id="wrong nonce"),
        pytest.param(_without("nonce"), id="no nonce"),
        pytest.param(lambda claims: {**claims, "iss": "https://evil.example"}, id="wrong issuer"),
        pytest.param(_without("iss"), id="no issuer"),
        pytest.param(lambda claims: {**claims, "aud": "another"}, id="wrong audience"),
        pytest.param(lambda claims: {**claims, "aud": ["another"]}, id="wrong audiences"),
        pytest.param(lambda claims: {**claims, "aud": [CLIENT_ID, "another"], "azp": "another"}, id="for another"),
        pytest.param(_without("aud"), id="no audience"),
        pytest.param(_expired, id="expired"),
        pytest.param(_without("exp"), id="never expires"),
        pytest.param(lambda claims: {**claims, "iat": claims["iat"] + 900}, id="from the future"),
        pytest.param(_without("sub"), id="no subject"),
        pytest.param(_without("preferred_username"), id="no name"),
        pytest.param(lambda claims: {**claims, "preferred_username": ["ann"]}, id="names"),
    ],
)
async def test_a_token_that_does_not_hold_is_refused(scene: Scene, alter: Callable[[Json], Json]) -> None:
    scene.provider.alter = alter
    async with scene.console.browser() as http:
        await scene.is_refused(await scene.sign_in(http), 403, BEGIN_AGAIN, "provider_refused: its ID token")


def _another_key(claims: Json, provider: OpenIdProvider) -> str:
    return provider.signed(claims, key=rsa.generate_private_key(public_exponent=65_537, key_size=2_048))


def _unknown_key(claims: Json, provider: OpenIdProvider) -> str:
    return jwt.encode(claims, provider.key, algorithm="RS256", headers={"kid": "unknown"})


@pytest.mark.parametrize(
    "sign",
    [
        pytest.param(lambda claims, _: jwt.encode(claims, "", algorithm="none"), id="alg none"),
        pytest.param(lambda claims, _: jwt.encode(claims, CLIENT_SECRET * 3, algorithm="HS256"), id="the secret"),
        pytest.param(_another_key, id="another key"),
        pytest.param(_unknown_key, id="an unknown key"),
        pytest.param(lambda claims, provider: provider.signed(claims)[:-8] + "AAAAAAAA", id="changed"),
        pytest.param(lambda _claims, _: "no token", id="no token"),
    ],
)
async def test_a_token_that_the_provider_has_not_signed_is_refused(
    scene: Scene, sign: Callable[[Json, OpenIdProvider], str]
) -> None:
    scene.provider.sign = sign
    async with scene.console.browser() as http:
        await scene.is_refused(await scene.sign_in(http), 403, BEGIN_AGAIN, "its ID token does not hold")


async def test_alg_none_is_refused_even_if_the_provider_announces_it(scene: Scene) -> None:
    scene.provider.document["id_token_signing_alg_values_supported"] = ["none", "HS256"]
    scene.provider.sign = lambda claims, _: jwt.encode(claims, "", algorithm="none")
    async with scene.console.browser() as http:
        await scene.is_refused(await scene.sign_in(http), 403, BEGIN_AGAIN, "its ID token does not hold")


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE operators SET name = 'bob'", "no operator has this name"),
        ("UPDATE operators SET disabled_at_ms = 1", "the operator is disabled"),
        ("UPDATE operators SET password_hash = NULL, totp_secret = NULL", "has not used the set-up link"),
    ],
    ids=["unknown", "disabled", "reset"],
)
async def test_whom_the_provider_knows_and_we_do_not_let_in(scene: Scene, statement: str, told: str) -> None:
    await scene.console.desk.engine.pool.execute(statement)
    async with scene.console.browser() as http:
        await scene.is_refused(await scene.sign_in(http), 403, NOBODY, told)
    row = await scene.console.desk.engine.pool.fetchrow("SELECT operator, subject_id FROM operator_log")
    assert row is not None
    assert tuple(row) == ("" if "bob" in statement else "ann", "ann")
    assert await scene.console.desk.engine.pool.fetchval("SELECT count(*) FROM operators") == 1


async def test_names_are_compared_letter_by_letter(scene: Scene) -> None:
    for name in ("Ann", "ann\x00", "ann " * 200, "\u0430nn", "\ud800"):
        scene.provider.person["preferred_username"] = name
        async with scene.console.browser() as http:
            await scene.is_refused(await scene.sign_in(http), 403, NOBODY, "no operator has this name")


async def test_a_way_back_that_names_another_issuer_is_refused(scene: Scene) -> None:
    for changed in ("iss=https%3A%2F%2Fevil.example", ""):
        async with scene.console.browser() as http:
            back = re.sub("iss=[^&]+", changed, await scene.way_back(http))
            await scene.is_refused(await http.get(back, headers=ENGLISH), 403, BEGIN_AGAIN, "another issuer, or none")


async def test_what_the_provider_refuses_is_told(scene: Scene) -> None:
    async with scene.console.browser() as http:
        state = parse_qs(urlsplit(await scene.start(http)).query)["state"][0]
        answer = await http.get("/oidc/callback", params={"error": "access_denied", "state": state}, headers=ENGLISH)
        await scene.is_refused(answer, 403, BEGIN_AGAIN, "it answers access_denied")


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"issuer": "https://evil.example"}, "names another issuer"),
        ({"token_endpoint": "http://evil.example/token"}, "unusable token_endpoint"),
        ({"jwks_uri": None}, "unusable jwks_uri"),
        ({"authorization_endpoint": "javascript:alert(1)"}, "unusable authorization_endpoint"),
        ({"more": "x" * ANSWER_BYTES_MAX}, "it sent more than"),
    ],
    ids=["issuer", "plain http", "missing", "script", "large"],
)
async def test_a_document_that_cannot_be_trusted_is_refused(scene: Scene, document: Json, told: str) -> None:
    scene.provider.document |= document
    async with scene.console.browser() as http:
        answer = await http.get("/oidc/start", headers=ENGLISH)
    await scene.is_refused(answer, 403, BEGIN_AGAIN, told)


async def test_a_provider_that_is_away_is_one_plain_sentence(settings: Settings) -> None:
    with held_port() as port:
        away = OpenIdProvider(f"http://127.0.0.1:{port}")
        async with open_console(away.settings(settings)) as console, console.browser() as http:
            answer = await http.get("/oidc/start", headers=ENGLISH)
            said = "The provider of single sign-on does not answer. Try again, or sign in with your password."
            await Scene(console, away, "").is_refused(answer, 503, said, "provider_away: it does not answer")
            assert (await http.get("/login")).status_code == 200


@pytest.mark.parametrize(
    "wanted", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:x", "/" + "x" * 2_000]
)
async def test_the_way_after_it_stays_here(scene: Scene, wanted: str) -> None:
    async with scene.console.browser() as http:
        answer = await scene.sign_in(http, wanted)
        assert 'content="0;url=/">' in answer.text
        assert "evil.example" not in answer.text


async def test_the_way_after_the_code_stays_here(settings: Settings) -> None:
    async with scene_of(settings) as scene, scene.console.browser() as http:
        await scene.sign_in(http, "//evil.example")
        answer = await http.post("/oidc/code", data={"code": await scene.code()}, headers=SAME_ORIGIN)
        assert answer.headers["location"] == "/"


async def test_an_address_has_so_many_tries_a_minute(scene: Scene) -> None:
    async with scene.console.browser() as http:
        statuses = [(await http.get("/oidc/start")).status_code for _ in range(25)]
    assert statuses.count(303) <= 21
    assert statuses[-1] == 429


async def test_the_document_is_read_once_in_ten_minutes(scene: Scene) -> None:
    async with scene.console.browser() as http:
        for _ in range(3):
            await scene.sign_in(http)
    assert len(scene.provider.asked) == 1


async def test_without_the_settings_there_is_nothing(settings: Settings) -> None:
    async with open_console(settings) as console, console.browser() as http:
        assert "oidc" not in (await http.get("/login")).text
        for path in ("/oidc/start", "/oidc/callback?code=x&state=y", "/oidc/code"):
            assert (await http.get(path)).status_code == 404
        assert (await http.post("/oidc/code", data={"code": "1"}, headers=SAME_ORIGIN)).status_code == 404


@pytest.mark.long
def test_without_authlib_one_sentence_says_what_to_install(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['authlib'] = None\n", encoding="utf-8")
    variables = {
        "HONGBAO_REDIS_URL": settings.redis_url or "",
        "HONGBAO_DATABASE_URL": settings.database_url or "",
        "HONGBAO_CONSOLE_OIDC_ISSUER": "https://id.example",
        "HONGBAO_CONSOLE_OIDC_CLIENT_ID": CLIENT_ID,
        "HONGBAO_CONSOLE_OIDC_CLIENT_SECRET": CLIENT_SECRET,
        "PYTHONPATH": str(tmp_path),
    }
    done = hongbao("console", "--port", "0", "--data-dir", tmp_path / "data", **variables)
    said = "hongbao: HONGBAO_CONSOLE_OIDC_ISSUER needs Authlib: install it with pip install 'hongbao[oidc]'.\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def test_a_provider_needs_to_know_where_to_send_people_back() -> None:
    values = {"console_oidc_issuer": "https://id.example", "console_oidc_client_id": "console"}
    told = Settings(**values, console_oidc_client_secret="s", console_host="0.0.0.0")  # type: ignore[arg-type]
    with pytest.raises(OperatorError, match="needs HONGBAO_CONSOLE_ORIGIN"):
        opened(told, "https://0.0.0.0:8081")


@pytest.mark.parametrize(
    ("issuer", "why"),
    [
        ("http://id.example", "must begin with https://"),
        ("https://user:secret@id.example", "name a host"),
        ("https://id.example/?tenant=1", "must have no [?]"),
        ("id.example", "name a host"),
    ],
)
def test_an_issuer_that_cannot_be_one(issuer: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HONGBAO_CONSOLE_OIDC_ISSUER", issuer)
    with pytest.raises(OperatorError, match=f"HONGBAO_CONSOLE_OIDC_ISSUER cannot be used: .*{why}") as raised:
        Settings.load()
    assert "secret" not in str(raised.value)


def test_an_issuer_needs_a_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HONGBAO_CONSOLE_OIDC_ISSUER", "https://id.example")
    with pytest.raises(OperatorError, match="needs HONGBAO_CONSOLE_OIDC_CLIENT_ID"):
        Settings.load()
    monkeypatch.setenv("HONGBAO_CONSOLE_OIDC_CLIENT_ID", CLIENT_ID)
    with pytest.raises(OperatorError, match="needs HONGBAO_CONSOLE_OIDC_CLIENT_SECRET"):
        Settings.load()
