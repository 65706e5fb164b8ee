"""What the console refuses, whoever asks and whatever a page forgets: origins, hosts, bodies, words from users."""

import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from api.console import headers
from api.console.bounds import ADDRESSES_MAX, NOBODYS_A_MINUTE_MAX, TRIES_A_MINUTE_MAX, Bounds, Bucket
from api.console.forms import BODY_BYTES_MAX, FIELDS_MAX
from api.console.pages import PAGES
from api.console.visits import Page
from engine.operators.log import Filter
from engine.operators.roles import ADMIN, FINANCE, ROLES, VIEWER
from engine.settings import Settings
from tests.support.administrator import Administrator
from tests.support.console import ORIGIN, SAME_ORIGIN, Console, new_key, open_console
from tests.support.repository import ROOT
from tests.support.waiting import wait_until

TEMPLATES = ROOT / "api" / "console" / "templates"

FOREIGN: list[dict[str, str]] = [
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "none"},
    {"sec-fetch-site": "cross-site", "origin": ORIGIN},
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": f"{ORIGIN}.evil.example"},
    {"origin": ORIGIN.replace("https", "http")},
    {"referer": f"{ORIGIN}/operators"},
    {},
]


@pytest.fixture
async def console(settings: Settings) -> AsyncIterator[Console]:
    async with open_console(settings) as opened:
        yield opened


async def names(console: Console) -> set[str]:
    return {operator.name for operator in await console.desk.operators.list()}


@pytest.mark.parametrize("sent", FOREIGN, ids=lambda sent: ",".join(sent.values()) or "nothing")
async def test_a_change_from_another_page_is_refused_and_logged(console: Console, sent: dict[str, str]) -> None:
    admin = await console.person(ADMIN)
    form = {"name": "eve", "role": ADMIN, "reason": "mine", "key": new_key()}
    answer = await admin.http.post("/operators", data=form, headers=sent)
    assert answer.status_code == 403
    assert "eve" not in await names(console)
    (row,) = (await console.desk.log.page(Filter())).rows
    assert (row.outcome, row.operator, row.action) == ("refused", "", "POST /operators")
    assert "page of the console" in row.told


async def test_an_older_browser_that_sends_our_origin_may_change(console: Console) -> None:
    admin = await console.person(ADMIN)
    form = {"name": "ann", "role": VIEWER, "reason": "new", "key": new_key()}
    assert (await admin.http.post("/operators", data=form, headers={"origin": ORIGIN})).status_code == 200
    assert "ann" in await names(console)


@pytest.mark.long
async def test_no_page_changes_anything_by_a_get(console: Console) -> None:
    """Nothing but the log of what was looked at, and when sessions were used."""
    admin, finance = await console.person(ADMIN), await console.person(FINANCE)
    pool = console.desk.engine.pool
    tables = [
        row["name"]
        for row in await pool.fetch(
            "SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 'p') AND n.nspname = 'public' AND c.relname NOT IN"
            " ('operator_log', 'operator_log_head', 'operator_sessions', 'lane_servers', 'leases')"
        )
    ]

    async def sums() -> dict[str, Any]:
        query = "SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {} t"
        return {name: await pool.fetchval(query.format(name)) for name in tables}

    before = await sums()
    for row in PAGES:
        if row.method == "GET":
            path = row.path.replace("{session_id}", "1").replace("{approval_id}", "1").replace("{name}", admin.name)
            for person in (admin, finance):
                await person.get(path.partition("{")[0] + ("1" if "{" in path else ""))
                await person.get(f"{path.partition('{')[0]}?reason=x&key={new_key()}&q=a&name=eve&role=admin")
    assert await sums() == before


@pytest.mark.parametrize("host", ["evil.example", "console.test.evil.example", "127.0.0.1", "console.test:8081", ""])
async def test_a_host_that_is_not_ours_is_refused(console: Console, host: str) -> None:
    """A name of theirs that leads to this machine (DNS rebinding) must not make their page ours."""
    person = await console.person(VIEWER)
    assert (await person.get("/", host=host)).status_code == 421


async def test_every_answer_has_all_headers(console: Console) -> None:
    person = await console.person(VIEWER)
    static = (await person.get("/")).text.split('stylesheet" href="')[1].split('"')[0]
    for path in ("/", "/login", "/nothing", "/operators", "/approvals/1", static, "/livez", "/metrics", "/search?q=x"):
        answer = await person.get(path)
        for name, value in headers.ALWAYS.items():
            assert answer.headers[name] == value, (path, name)
        assert "unsafe" not in answer.headers["content-security-policy"]
        is_static = path == static
        assert ("immutable" in answer.headers["cache-control"]) == is_static
        assert is_static or answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers
    assert (await person.get("/")).headers["strict-transport-security"] == headers.HSTS


async def test_no_page_has_a_style_or_a_script_of_its_own(console: Console) -> None:
    admin = await console.person(ADMIN)
    for row in PAGES:
        if row.method == "GET" and "{" not in row.path:
            text = (await admin.get(row.path)).text.lower()
            assert " style=" not in text, row.path
            assert " onclick=" not in text, row.path
            assert "<style" not in text, row.path
            assert "javascript:" not in text, row.path
            assert all("src=" in tag.partition(">")[0] for tag in text.split("<script")[1:]), row.path


EVIL = "\"><img src=x onerror=alert(1)>'${7*7}{{7*7}}</textarea><script>alert(1)</script>"


async def test_what_users_write_is_shown_as_text(console: Console) -> None:
    admin, finance = await console.person(ADMIN), await console.person(FINANCE)
    await finance.act("/deposits", user_id="alice", amount="1", reason=EVIL)
    await admin.post("/operators", {"name": EVIL, "role": EVIL, "reason": EVIL, "key": new_key()})
    shown = [
        await finance.get("/approvals/1"),
        await finance.get("/approvals"),
        await admin.get("/log"),
        await admin.get("/log?operator=" + EVIL.replace("#", "")),
        await admin.get("/search?q=" + EVIL),
        await finance.get("/deposits?user_id=" + EVIL + "&amount=" + EVIL),
        await admin.get("/login?next=" + EVIL),
        await admin.get("/?notice=" + EVIL),
    ]
    for answer in shown:
        assert "<img src=x" not in answer.text, answer.url
        assert "<script>alert" not in answer.text, answer.url
        assert "49" not in answer.text or "{{7*7}}" in answer.text or "7*7" not in answer.text, answer.url
    assert "&lt;img src=x onerror" in shown[0].text


async def test_a_link_cannot_put_words_into_a_notice(console: Console) -> None:
    person = await console.person(VIEWER)
    assert "call me" not in (await person.get("/?notice=call me at 555")).text
    assert "Saved." in (await person.get("/?notice=saved")).text


BAD_FORMS: list[tuple[str, bytes, str, int]] = [
    ("too large", b"name=" + b"x" * BODY_BYTES_MAX, "application/x-www-form-urlencoded", 413),
    ("too many fields", b"&".join(b"a=1" for _ in range(FIELDS_MAX + 1)), "application/x-www-form-urlencoded", 400),
    ("a field too long", b"reason=" + b"x" * 20_001, "application/x-www-form-urlencoded", 400),
    ("not UTF-8", b"name=%ff%fe", "application/x-www-form-urlencoded", 400),
    ("a zero byte", b"name=a%00b", "application/x-www-form-urlencoded", 400),
    ("not ASCII", "name=红".encode(), "application/x-www-form-urlencoded", 400),
    ("JSON", b'{"name": "x"}', "application/json", 415),
    ("parts", b"--x\r\n", "multipart/form-data; boundary=x", 415),
]


@pytest.mark.parametrize(("what", "body", "kind", "status"), BAD_FORMS, ids=[row[0] for row in BAD_FORMS])
async def test_a_form_that_cannot_be_read_is_refused(
    console: Console, what: str, body: bytes, kind: str, status: int
) -> None:
    admin = await console.person(ADMIN)
    answer = await admin.http.post("/operators", content=body, headers={**SAME_ORIGIN, "content-type": kind})
    assert answer.status_code == status, what
    assert await console.desk.engine.pool.fetchval("SELECT count(*) FROM operators") == 1


@pytest.mark.parametrize("path", ["/log?" + "a" * 5_000, "/log?q=%00", "/log?q=%ff", "/log?after=x", "/log?from=x"])
async def test_a_query_that_cannot_be_read_is_refused(console: Console, path: str) -> None:
    admin = await console.person(ADMIN)
    assert (await admin.get(path)).status_code in (400, 422)


@pytest.mark.long
async def test_no_path_is_too_odd_to_be_answered(console: Console) -> None:
    people = [await console.person(role) for role in ROLES]
    for row in (row for row in PAGES if isinstance(row, Page) and "{" in row.path):
        person = next(person for person in people if console.may(person, row))
        for odd in ("%00", "a%00b", "%ED%A0%80", "%C0%80", "%E2%80%AE", "." * 300):
            path = re.sub(r"\{[^}]*\}", odd, row.path)
            form = {"role": VIEWER, "typed": odd, "note": "x", "to": "-"}
            answer = await (person.get(path) if row.method == "GET" else person.act(path, **form))
            assert answer.status_code < 500, (row.method, path)


WITHOUT_A_CODE = {
    *("/alerts/acknowledge", "/alerts/assign", "/alerts/deliver", "/analysis", "/approvals/{}/refuse", "/audit/run"),
    *("/campaigns/new", "/campaigns/{}/pause", "/campaigns/{}/resume", "/campaigns/{}/extend", "/disputes/{}/assign"),
    *("/labels/limit", "/me/language", "/me/password", "/me/authenticator", "/me/sessions/{}/end", "/logout"),
    *("/packets/{}/notes", "/users/{}/freeze", "/users/{}/profile", "/users/{}/notes"),
    *("/reconciliation/run", "/reconciliation/{}/explain"),
}
"""Changes that move no money and let none move, or that ask for a code themselves."""


def test_each_page_asks_for_a_code_or_is_known_to_move_no_money() -> None:
    changes = [row for row in PAGES if isinstance(row, Page) and row.method == "POST"]
    assert {re.sub(r"\{[^}]*\}", "{}", row.path) for row in changes if not row.needs_proof} == WITHOUT_A_CODE


async def test_what_needs_a_code_does_nothing_without_one(console: Console) -> None:
    people = [await console.person(role) for role in ROLES]
    await console.desk.engine.pool.execute("UPDATE operator_sessions SET proved_at_ms = 0")
    rows = [row for row in PAGES if isinstance(row, Page) and row.needs_proof]
    for row in rows:
        person = next(person for person in people if console.may(person, row))
        answer = await person.act(re.sub(r"\{[^}]*\}", "1", row.path), typed="1", user_id="alice", amount="1")
        assert answer.status_code == 403, row.path
        assert "Enter the one that the app shows now." in answer.text, row.path
    refused = (await console.desk.log.page(Filter(outcome="refused"), limit=100)).rows
    assert [row.told.partition(":")[0] for row in refused] == ["wrong_code"] * len(rows)


def test_each_form_has_a_field_for_the_code_exactly_if_its_page_needs_one() -> None:
    pages = [row for row in PAGES if isinstance(row, Page) and row.method == "POST"]
    needs = {re.sub(r"\{[^}]*\}", "{}", row.path): row.needs_proof for row in pages}
    forms = [
        (filled(path), call)
        for file in sorted(TEMPLATES.glob("*.html"))
        if file.name != "macros.html"
        for call, path in re.findall(r'(ui\.action\(("/[^,]*), [^\n]*\))', file.read_text(encoding="utf-8"))
    ]
    assert len(forms) > 25
    assert [path for path, call in forms if ("money=true" in call) != needs[path]] == []


def filled(path: str) -> str:
    """The path that a template puts together: ``"/a/" ~ x ~ "/b"`` is ``/a/{}/b``."""
    return "".join(part[1:-1] if part.startswith('"') else "{}" for part in path.split(" ~ "))


async def test_an_unknown_page_and_a_wrong_method_are_told(console: Console) -> None:
    person = await console.person(VIEWER)
    assert (await person.get("/nothing")).status_code == 404
    assert (await person.post("/log")).status_code == 405
    assert (await person.get("/static/0000000000000000/console.css")).status_code == 404
    assert (await person.get("/static/../../settings.py")).status_code == 404


@pytest.mark.usefixtures("same_minute")
async def test_strangers_cannot_fill_the_log(console: Console) -> None:
    async with console.browser() as http:
        for _ in range(NOBODYS_A_MINUTE_MAX + 20):
            assert (await http.post("/logout")).status_code == 403
    rows = await console.desk.engine.pool.fetchval("SELECT count(*) FROM operator_log")
    assert rows <= NOBODYS_A_MINUTE_MAX + 2


def test_a_bucket_is_filled_again() -> None:
    bucket = Bucket(2)
    assert [bucket.take() for _ in range(3)] == [True, True, False]
    bucket._at_s -= 30
    assert [bucket.take() for _ in range(2)] == [True, False]


@pytest.mark.usefixtures("same_minute")
async def test_an_address_has_a_bounded_number_of_tries(console: Console) -> None:
    await console.staff.sign_up("ann", VIEWER)
    async with console.browser() as http:
        form = {"name": "nobody", "password": "x", "code": "1"}
        answers = [await http.post("/login", data=form, headers=SAME_ORIGIN) for _ in range(TRIES_A_MINUTE_MAX + 5)]
        statuses = [answer.status_code for answer in answers]
        assert statuses[:TRIES_A_MINUTE_MAX] == [403] * TRIES_A_MINUTE_MAX
        assert statuses[-1] == 429
        assert (await http.get("/login")).status_code == 200


@pytest.mark.usefixtures("same_minute")
async def test_who_fills_the_log_up_does_not_hide_tries_to_sign_in(console: Console) -> None:
    async with console.browser() as http:
        for _ in range(NOBODYS_A_MINUTE_MAX + 5):
            await http.post("/logout")  # it does not come from a page of ours
        with capture_logs() as logs:
            await http.post("/login", data={"name": "ann", "password": "x", "code": "1"}, headers=SAME_ORIGIN)
    assert [(event["action"], event["told"]) for event in logs] == [("sign in", "sign_in_refused")]


def test_addresses_are_forgotten_when_there_are_too_many() -> None:
    bounds = Bounds()
    for number in range(ADDRESSES_MAX + 10):
        bounds.tries_of(str(number))
    assert len(bounds._tries) == ADDRESSES_MAX
    assert bounds.tries_of(str(ADDRESSES_MAX)) is bounds.tries_of(str(ADDRESSES_MAX))


def test_the_addresses_of_one_customer_have_their_tries_together() -> None:
    bounds = Bounds()
    assert bounds.tries_of("2001:db8::1") is bounds.tries_of("2001:db8::ffff:2")
    assert bounds.tries_of("2001:db8::1") is not bounds.tries_of("2001:db8:0:1::1")
    assert bounds.tries_of("192.0.2.1") is not bounds.tries_of("192.0.2.2")


async def test_static_files_are_compressed_and_kept_for_a_year(console: Console) -> None:
    person = await console.person(VIEWER)
    style = (await person.get("/")).text.split('stylesheet" href="')[1].split('"')[0]
    plain = await person.get(style, **{"accept-encoding": "identity"})
    packed = await person.get(style, **{"accept-encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.text == plain.text
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"]) / 3


async def test_probes_answer_without_a_session(console: Console) -> None:
    async with console.browser() as http:
        assert (await http.get("/livez")).text == "live\n"
        assert (await http.get("/readyz")).text == "ready\n"
        assert "hongbao_process_starts_total" in (await http.get("/metrics")).text


async def test_without_postgres_pages_say_so_and_come_back(
    console: Console, settings: Settings, administrator: Administrator
) -> None:
    person = await console.person(VIEWER)
    name = urlsplit(settings.database_url or "").path.removeprefix("/")
    await administrator.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    await administrator.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    try:
        answer = await person.get("/log")
        assert answer.status_code == 503
        assert "A server does not answer" in answer.text
        assert (await person.get("/readyz")).status_code == 503
        assert (await person.get("/livez")).status_code == 200
    finally:
        await administrator.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")

    async def is_back() -> bool:
        return (await person.get("/log")).status_code == 200

    await wait_until(is_back, what="the log being shown again")
