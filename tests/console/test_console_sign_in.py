"""Signing in, sessions, set-up links: what holds, what ends, what is counted."""

import asyncio
import re
from collections.abc import AsyncIterator

import httpx
import pytest

from api.console.gate import COOKIE
from engine.auditing.heavy import Job
from engine.operators.accounts import TRIES_MAX, Operator
from engine.operators.codes import code_at
from engine.operators.refusals import LinkEndedError, SignInRefusedError
from engine.operators.roles import ADMIN, FINANCE, OPERATOR, VIEWER
from engine.operators.sessions import OPEN_MAX
from engine.running import consoles
from engine.running.consoles import FIRST
from engine.settings import Settings
from tests.support.console import PASSWORD, SAME_ORIGIN, Console, Person, open_console

NEW = "a whole new password"


@pytest.fixture
async def console(settings: Settings) -> AsyncIterator[Console]:
    async with open_console(settings) as opened:
        yield opened


async def try_it(http: httpx.AsyncClient, name: str, password: str, code: str, **more: str) -> httpx.Response:
    form = {"name": name, "password": password, "code": code, **more}
    return await http.post("/login", data=form, headers={"accept-language": "en", **SAME_ORIGIN})


async def outcomes(console: Console, action: str) -> list[str]:
    rows = await console.desk.engine.pool.fetch(
        "SELECT outcome FROM operator_log WHERE action = $1 ORDER BY number", action
    )
    return [row["outcome"] for row in rows]


async def is_locked(console: Console, name: str) -> bool:
    (view,) = [view for view in await console.desk.operators.list() if view.name == name]
    return view.locked_until_ms is not None


@pytest.mark.long
async def test_name_password_and_code_begin_a_session_in_a_cookie_that_nothing_can_read(console: Console) -> None:
    _, secret = await console.staff.sign_up("ann", VIEWER)
    async with console.browser() as http:
        answer = await try_it(http, "ann", PASSWORD, await console.staff.code(secret, "ann"))
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith(f"{COOKIE}=")
        attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert {"secure", "httponly", "samesite=strict", "path=/"} <= attributes
        assert not any(part.startswith(("domain", "max-age", "expires")) for part in attributes)
        assert (await http.get("/")).status_code == 200
    token = http.cookies[COOKIE]
    kept = await console.desk.engine.pool.fetchval("SELECT token_hash FROM operator_sessions")
    assert token.encode() not in kept
    assert len(kept) == 32
    assert await outcomes(console, "sign in") == ["ok"]


@pytest.mark.parametrize(
    ("name", "password", "code"),
    [("ann", "a wrong password", ""), ("ann", PASSWORD, "000000"), ("nobody", PASSWORD, ""), ("", "", "")],
    ids=["password", "code", "name", "nothing"],
)
async def test_what_is_wrong_is_not_told(console: Console, name: str, password: str, code: str) -> None:
    _, secret = await console.staff.sign_up("ann", VIEWER)
    async with console.browser() as http:
        answer = await try_it(http, name, password, code or await console.staff.code(secret, "ann"))
        assert answer.status_code == 403
        assert "The name, the password or the code is wrong." in answer.text
        assert "set-cookie" not in answer.headers
    assert await outcomes(console, "sign in") == ["refused"]
    row = await console.desk.engine.pool.fetchrow("SELECT operator, arguments, told FROM operator_log")
    assert row is not None
    assert row["operator"] == ("ann" if name == "ann" else "")
    assert password not in str(row) or not password


async def test_five_wrong_tries_lock_also_for_the_right_password(console: Console) -> None:
    _, secret = await console.staff.sign_up("ann", VIEWER)
    async with console.browser() as http:
        statuses = [(await try_it(http, "ann", "wrong", "000000")).status_code for _ in range(TRIES_MAX)]
        assert statuses == [403] * TRIES_MAX
        assert await is_locked(console, "ann")
        right = await try_it(http, "ann", PASSWORD, await console.staff.code(secret, "ann"))
        assert right.status_code == 423
        await console.desk.engine.pool.execute("UPDATE operators SET locked_until_ms = 1")
        right = await try_it(http, "ann", PASSWORD, await console.staff.code(secret, "ann"))
        assert right.status_code == 303


async def test_simultaneous_wrong_tries_are_all_counted(console: Console) -> None:
    await console.staff.sign_up("ann", VIEWER)
    async with console.browser() as http:
        answers = await asyncio.gather(*(try_it(http, "ann", "wrong", "000000") for _ in range(TRIES_MAX)))
    assert [answer.status_code for answer in answers] == [403] * TRIES_MAX
    assert await is_locked(console, "ann")


async def test_which_names_there_are_is_not_told(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by a lock nor by who is disabled or not set up yet. The log says it."""
    monkeypatch.setattr("api.console.bounds.TRIES_A_MINUTE_MAX", 100)
    await console.staff.sign_up("ann", VIEWER)
    await console.staff.sign_up("bob", VIEWER)
    await console.desk.operators.disable("bob")
    await console.desk.operators.add("eve", VIEWER, by="tests")
    answers: dict[str, list[tuple[int, str]]] = {}
    async with console.browser() as http:
        for name in ("ann", "bob", "eve", "nobody"):
            found = [await try_it(http, name, "x" * 12, "000000") for _ in range(TRIES_MAX + 2)]
            answers[name] = [(answer.status_code, answer.text) for answer in found]
    assert answers["ann"] == answers["bob"] == answers["eve"] == answers["nobody"]
    assert await is_locked(console, "ann")
    rows = await console.desk.engine.pool.fetch("SELECT told FROM operator_log WHERE operator = 'ann' ORDER BY number")
    locked = "sign_in_refused: the operator is locked"
    assert [row["told"] for row in rows] == ["sign_in_refused"] * (TRIES_MAX - 1) + [locked] * 3


async def test_a_code_is_used_once(console: Console) -> None:
    _, secret = await console.staff.sign_up("ann", VIEWER)
    code = await console.staff.code(secret, "ann")
    async with console.browser() as http:
        assert (await try_it(http, "ann", PASSWORD, code)).status_code == 303
        assert (await try_it(http, "ann", PASSWORD, code)).status_code == 403


async def test_a_session_that_was_signed_out_is_gone_for_who_kept_the_cookie(console: Console) -> None:
    person = await console.person(VIEWER)
    token = person.http.cookies[COOKIE]
    assert (await person.post("/logout")).status_code == 303
    async with console.browser() as http:
        http.cookies.set(COOKIE, token, domain="console.test")
        assert (await http.get("/")).status_code == 303


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE operator_sessions SET seen_at_ms = seen_at_ms - 1800001",
        "UPDATE operator_sessions SET begun_at_ms = begun_at_ms - 43200001",
        "UPDATE operators SET disabled_at_ms = 1",
        "UPDATE operators SET password_hash = NULL, totp_secret = NULL",
    ],
    ids=["idle", "old", "disabled", "reset"],
)
async def test_a_session_ends(console: Console, statement: str) -> None:
    person = await console.person(VIEWER)
    assert (await person.get("/")).status_code == 200
    await console.desk.engine.pool.execute(statement)
    assert (await person.get("/")).status_code == 303


async def test_a_session_that_is_used_stays_awake(console: Console) -> None:
    person = await console.person(VIEWER)
    await console.desk.engine.pool.execute("UPDATE operator_sessions SET seen_at_ms = seen_at_ms - 1700000")
    assert (await person.get("/")).status_code == 200
    idle_ms = await console.desk.engine.pool.fetchval(
        "SELECT extract(epoch FROM clock_timestamp()) * 1000 - seen_at_ms FROM operator_sessions"
    )
    assert idle_ms < 60_000


async def test_a_page_that_asks_by_itself_keeps_no_session_awake(console: Console) -> None:
    person = await console.person(VIEWER)
    pool, token = console.desk.engine.pool, person.http.cookies[COOKIE]
    await pool.execute("UPDATE operator_sessions SET seen_at_ms = seen_at_ms - 1700000")
    before = await pool.fetchval("SELECT seen_at_ms FROM operator_sessions")
    assert await console.desk.sessions.of(token, is_use=False) is not None
    assert await pool.fetchval("SELECT seen_at_ms FROM operator_sessions") == before
    assert await console.desk.sessions.of(token) is not None
    assert await pool.fetchval("SELECT seen_at_ms FROM operator_sessions") > before


@pytest.mark.parametrize("page", ["/audit", "/reconciliation", "/reconciliation/2026-11-28"])
async def test_who_leaves_a_page_open_while_a_job_runs_is_signed_out_all_the_same(console: Console, page: str) -> None:
    person, pool = await console.person(OPERATOR), console.desk.engine.pool
    job = console.desk.jobs.last = Job(what="audit", by=person.name, started_at_ms=1)
    (asked,) = re.findall(r'hx-get="([^"]*)" hx-trigger="every', (await person.get(page)).text)
    await pool.execute("UPDATE operator_sessions SET seen_at_ms = seen_at_ms - 1700000")
    before = await pool.fetchval("SELECT seen_at_ms FROM operator_sessions")
    part = await person.get(asked)
    assert part.status_code == 200
    assert part.text.strip().startswith('<p id="job"')
    assert f'hx-get="{asked}"' in part.text
    assert await pool.fetchval("SELECT seen_at_ms FROM operator_sessions") == before
    job.ended_at_ms = 2
    over = (await person.get(asked)).text
    assert f'href="{page}"' in over
    assert "hx-get" not in over


async def test_a_role_that_is_taken_away_is_gone_with_the_next_request(console: Console) -> None:
    person = await console.person(ADMIN)
    assert (await person.get("/operators")).status_code == 200
    await console.desk.operators.put_role(person.name, VIEWER)
    assert (await person.get("/operators")).status_code == 403


async def test_an_admin_ends_a_session_and_a_person_their_own(console: Console) -> None:
    admin, person = await console.person(ADMIN), await console.person(VIEWER)
    (session,) = await console.desk.sessions.open_of(person.name)
    assert (await admin.act(f"/operators/{person.name}/sessions/{session.session_id}/end")).status_code == 303
    assert (await person.get("/")).status_code == 303
    (own,) = await console.desk.sessions.open_of(admin.name)
    assert (await admin.post(f"/me/sessions/{own.session_id}/end")).status_code == 303
    assert (await admin.get("/")).status_code == 303


async def test_nobody_ends_the_session_of_another_as_their_own(console: Console) -> None:
    viewer, person = await console.person(VIEWER), await console.person(VIEWER)
    (session,) = await console.desk.sessions.open_of(person.name)
    await viewer.post(f"/me/sessions/{session.session_id}/end")
    assert (await person.get("/")).status_code == 200


async def test_one_session_too_many_ends_the_oldest(console: Console) -> None:
    person = await console.person(VIEWER)
    for _ in range(OPEN_MAX):
        await console.desk.sessions.begin(person.operator, address="", agent="")
    assert (await person.get("/")).status_code == 303
    assert len(await console.desk.sessions.open_of(person.name)) == OPEN_MAX


async def test_a_set_up_link_is_used_once_and_ends_after_ten_minutes(console: Console) -> None:
    admin = await console.person(ADMIN)
    answer = await admin.act("/operators", name="ann", role="support")
    link = answer.text.split("https://console.test")[1].split("<")[0]
    secret = (await console.desk.operators.set_up(link.rpartition("/")[2])).totp_secret
    async with console.browser() as http:
        form = {"password": PASSWORD, "again": PASSWORD, "code": await console.staff.code(secret)}
        assert (await http.get(link)).status_code == 200
        weak = await http.post(link, data={**form, "password": "short", "again": "short"}, headers=SAME_ORIGIN)
        assert weak.status_code == 422
        other = await http.post(link, data={**form, "again": "another long one"}, headers=SAME_ORIGIN)
        assert other.status_code == 422
        wrong = await http.post(link, data={**form, "code": "000000"}, headers=SAME_ORIGIN)
        assert wrong.status_code == 403
        assert (await http.post(link, data=form, headers=SAME_ORIGIN)).headers["location"] == "/login?notice=set_up"
        assert (await http.get(link)).status_code == 404
        assert (await http.post(link, data=form, headers=SAME_ORIGIN)).status_code == 404
        reset = await admin.act("/operators/ann/reset")
        link = reset.text.split("https://console.test")[1].split("<")[0]
        await console.desk.engine.pool.execute("UPDATE operator_links SET expires_at_ms = expires_at_ms - 600000")
        assert (await http.get(link)).status_code == 404
    assert link not in str(await console.desk.engine.pool.fetch("SELECT * FROM operator_log"))


async def test_a_reset_does_not_enable(console: Console) -> None:
    admin = await console.person(ADMIN)
    await console.person(FINANCE, "bob")
    assert (await admin.act("/operators/bob/disable")).status_code == 303
    assert "the link can be used once they are enabled" in (await admin.get("/operators/bob")).text
    reset = await admin.act("/operators/bob/reset")
    assert reset.status_code == 200
    (bob,) = [one for one in await console.desk.operators.list() if one.name == "bob"]
    assert bob.disabled_at_ms is not None
    link = reset.text.split("https://console.test")[1].split("<")[0]
    async with console.browser() as http:
        assert (await http.get(link)).status_code == 404
        assert (await admin.act("/operators/bob/enable")).status_code == 303
        assert (await http.get(link)).status_code == 200


async def test_the_first_operator_can_begin_anew_if_nobody_can_sign_in(console: Console) -> None:
    """Nobody is there who could enable them."""
    await console.person(ADMIN, FIRST)
    await console.desk.operators.disable(FIRST)
    told: list[str] = []
    (console.desk.settings.data_dir / "run").mkdir(parents=True, exist_ok=True)
    await consoles.tell(console.desk.settings, 443, told.append)
    link = told[-1].split("/setup/")[1].split()[0]
    assert (await console.desk.operators.set_up(link)).operator.name == FIRST


async def test_a_password_that_holds_the_name_is_refused(console: Console) -> None:
    link = await console.desk.operators.add("annabelle", VIEWER, by="tests")
    async with console.browser() as http:
        form = {"password": "my-Annabelle-2026", "again": "my-Annabelle-2026", "code": "000000"}
        assert (await http.post(f"/setup/{link}", data=form, headers=SAME_ORIGIN)).status_code == 422


async def test_an_operator_changes_password_and_language(console: Console) -> None:
    person = await console.person(VIEWER)
    second, _ = await console.desk.sessions.begin(person.operator, address="", agent="")
    new = "a whole new password"
    form = {"current_password": PASSWORD, "new_password": new, "again": new, "code": await console.code(person)}
    assert (await person.post("/me/password", {**form, "current_password": "wrong"})).status_code == 403
    assert (await person.post("/me/password", form)).headers["location"] == "/me?notice=saved"
    assert (await person.get("/me")).status_code == 200
    assert await console.desk.sessions.of(second) is None  # the others have ended
    async with console.browser() as http:
        assert (await try_it(http, person.name, PASSWORD, await console.code(person))).status_code == 403
        assert (await try_it(http, person.name, new, await console.code(person))).status_code == 303
        assert (await person.post("/me/language", {"language": "zh"})).status_code == 303
        assert 'lang="zh-CN"' in (await http.get("/", headers={"accept-language": "en"})).text
    assert (await person.post("/me/language", {"language": "xx"})).status_code == 422


async def test_who_renews_the_authenticator_signs_in_with_the_new_one(console: Console) -> None:
    person = await console.person(FINANCE)
    answer = await person.post("/me/authenticator", {"current_password": PASSWORD, "code": await console.code(person)})
    link = answer.headers["location"]
    assert link.startswith("/setup/")
    set_up = await console.desk.operators.set_up(link.rpartition("/")[2])
    assert set_up.totp_secret != person.secret
    code = await console.staff.code(set_up.totp_secret)
    async with console.browser() as http:
        form = {"password": PASSWORD, "again": PASSWORD, "code": code}
        assert (await http.post(link, data=form, headers=SAME_ORIGIN)).status_code == 303
        assert (await try_it(http, person.name, PASSWORD, await console.code(person))).status_code == 403
        new = await console.staff.code(set_up.totp_secret, person.name)
        assert (await try_it(http, person.name, PASSWORD, new)).status_code == 303


async def link_of(console: Console, person: Person) -> str:
    """A link with which the person sets their sign-in up anew."""
    form = {"current_password": PASSWORD, "code": await console.code(person)}
    return (await person.post("/me/authenticator", form)).headers["location"].rpartition("/")[2]


async def change_password(console: Console, person: Person) -> None:
    form = {"current_password": PASSWORD, "new_password": NEW, "again": NEW, "code": await console.code(person)}
    assert (await person.post("/me/password", form)).status_code == 303


async def test_a_link_ends_with_a_new_password_and_when_its_operator_is_disabled(console: Console) -> None:
    admin, ann, bob = await console.person(ADMIN), await console.person(VIEWER), await console.person(VIEWER)
    links = [await link_of(console, person) for person in (ann, bob)]
    await change_password(console, ann)
    for change in ("disable", "enable"):
        assert (await admin.act(f"/operators/{bob.name}/{change}")).status_code == 303
    for link in links:
        with pytest.raises(LinkEndedError):
            await console.desk.operators.set_up(link)


@pytest.mark.parametrize("change", ["password", "reset", "disable"])
async def test_a_sign_in_that_was_checked_before_a_change_begins_nothing_after_it(
    console: Console, change: str
) -> None:
    ann = await console.person(VIEWER)
    desk, code = console.desk, await console.code(ann)
    checked = [await desk.operators.sign_in(ann.name, PASSWORD, code), await desk.operators.vouched(ann.name)]
    if change == "password":
        await change_password(console, ann)
    else:
        await getattr(desk.operators, change)(ann.name)
    for operator in checked:
        with pytest.raises(SignInRefusedError):
            await desk.sessions.begin(operator, address="", agent="")


async def test_a_sign_in_that_is_overtaken_by_a_change_is_refused(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, operators = await console.person(VIEWER), console.desk.operators
    checked = operators.sign_in

    async def overtaken(name: str, password: str, code: str) -> Operator:
        operator = await checked(name, password, code)
        await change_password(console, ann)
        return operator

    monkeypatch.setattr(type(operators), "sign_in", staticmethod(overtaken))
    async with console.browser() as http:
        answer = await try_it(http, ann.name, PASSWORD, await console.code(ann))
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
    assert await outcomes(console, "sign in") == ["refused"]


@pytest.mark.parametrize("name", ["%00", "a%ED%A0%80", "a b", "a" * 65, "nobody"])
async def test_a_name_that_no_operator_can_have_is_nobodys(console: Console, name: str) -> None:
    admin = await console.person(ADMIN)
    assert (await admin.get(f"/operators/{name}")).status_code == 404
    for what in ("role", "disable", "enable", "reset"):
        assert (await admin.act(f"/operators/{name}/{what}", role=VIEWER)).status_code == 404, what
    assert (await admin.act(f"/operators/{name}/sessions/1/end")).status_code == 404


async def test_a_sign_in_that_is_set_up_anew_ends_every_session(console: Console) -> None:
    """Who renews it because somebody else has a session must be rid of them."""
    ann = await console.person(VIEWER, "ann")
    stolen = console.browser()
    token, _ = await console.desk.sessions.begin(ann.operator, address="192.0.2.1", agent="another")
    stolen.cookies.set(COOKIE, token, domain="console.test")
    assert (await stolen.get("/me")).status_code == 200
    answer = await ann.act("/me/authenticator", current_password=PASSWORD, code=await console.code(ann))
    link = answer.headers["location"]
    secret = (await console.desk.operators.set_up(link.rpartition("/")[2])).totp_secret
    form = {"password": "another good one", "again": "another good one", "code": await console.staff.code(secret)}
    assert (await ann.post(link, form)).status_code == 303
    assert (await stolen.get("/me")).status_code == 303
    await stolen.aclose()


async def test_an_admin_cannot_act_on_themselves(console: Console) -> None:
    admin = await console.person(ADMIN)
    for action in ("disable", "reset", "role"):
        assert (await admin.act(f"/operators/{admin.name}/{action}", role=VIEWER)).status_code == 422


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:x", "x"])
async def test_the_way_after_the_sign_in_stays_here(console: Console, target: str) -> None:
    _, secret = await console.staff.sign_up("ann", VIEWER)
    async with console.browser() as http:
        answer = await try_it(http, "ann", PASSWORD, await console.staff.code(secret, "ann"), next=target)
        assert answer.headers["location"] == "/"


async def test_the_way_after_the_sign_in_is_the_one_that_was_asked_for(console: Console) -> None:
    _, secret = await console.staff.sign_up("ann", VIEWER)
    async with console.browser() as http:
        asked = await http.get("/log?operator=bob&after=12")
        assert asked.headers["location"] == "/login?next=%2Flog%3Foperator%3Dbob%26after%3D12"
        code = await console.staff.code(secret, "ann")
        answer = await try_it(http, "ann", PASSWORD, code, next="/log?operator=bob&after=12")
        assert answer.headers["location"] == "/log?operator=bob&after=12"


def test_codes_are_those_of_the_standard() -> None:
    """RFC 6238, appendix B, of which these are the last six digits."""
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    known = {59: "287082", 1_111_111_109: "081804", 1_234_567_890: "005924", 20_000_000_000: "353130"}
    assert {at_s: code_at(secret, at_s * 1_000) for at_s in known} == known
