"""The operator log: what is in it, its filters, its file; and CSV files as spreadsheets read them."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from hashlib import sha256

import asyncpg
import orjson
import pytest
from structlog.testing import capture_logs

from api.console import csv_files
from api.console.gate import COOKIE
from engine.operators import codes
from engine.operators.chain import COLUMNS, row_hash
from engine.operators.log import ARGUMENTS_LENGTH_MAX, ASKED, COMMAND_LINE, OK, Actor, Filter, OperatorLog, Row
from engine.operators.roles import ADMIN, FINANCE, RISK, VIEWER
from engine.persisting.quarantine import AT_ONCE_MAX
from engine.settings import Settings
from engine.spreadsheets import Plain
from tests.support.console import PASSWORD, SAME_ORIGIN, Console, new_key, open_console


@pytest.fixture
async def console(settings: Settings) -> AsyncIterator[Console]:
    async with open_console(settings) as opened:
        yield opened


async def rows_of(console: Console, **wanted: str) -> list[Row]:
    return list(reversed((await console.desk.log.page(Filter(**wanted), limit=200)).rows))  # type: ignore[arg-type]


def test_what_is_shown_is_what_the_chain_covers() -> None:
    assert tuple(Row.__slots__) == COLUMNS


async def test_an_action_has_a_row_before_it_and_one_after_it(console: Console) -> None:
    admin = await console.person(ADMIN)
    await admin.act("/operators", name="ann", role=VIEWER, reason="a new colleague")
    asked, done = await rows_of(console, action="add operator")
    assert (asked.outcome, done.outcome, done.about) == ("asked", "ok", asked.number)
    for row in (asked, done):
        assert (row.operator, row.role, row.address) == (admin.name, ADMIN, "127.0.0.1")
        assert (row.subject_kind, row.subject_id, row.session_id) == ("operator", "ann", 1)
    assert asked.reason == "a new colleague"
    assert asked.arguments == '{"name":"ann","role":"viewer"}'
    await admin.act("/operators", name="ann", role=VIEWER)
    assert [row.outcome for row in await rows_of(console, action="add operator")][2:] == ["asked", "refused"]


async def test_an_action_that_fails_has_its_row(console: Console) -> None:
    admin = await console.person(ADMIN)
    await console.desk.engine.pool.execute("ALTER TABLE operators ADD CONSTRAINT none CHECK (name <> 'ann')")
    assert (await admin.act("/operators", name="ann", role=VIEWER)).status_code == 500
    assert [row.outcome for row in await rows_of(console, action="add operator")] == ["asked", "failed"]


async def test_what_a_role_may_not_do_is_in_the_log(console: Console) -> None:
    viewer = await console.person(VIEWER)
    await viewer.act("/deposits", user_id="alice", amount="1")
    await viewer.get("/operators")
    told = [(row.action, row.outcome) for row in await rows_of(console, operator=viewer.name)]
    assert told == [("deposit", "asked"), ("deposit", "refused"), ("GET /operators", "refused")]


async def test_no_secret_is_in_the_log(console: Console) -> None:
    person = await console.person(FINANCE)
    code = await console.code(person)
    form = {"current_password": PASSWORD, "new_password": "another password", "again": "another password"}
    await person.post("/me/password", {**form, "code": code})
    text = str(await console.desk.engine.pool.fetch("SELECT * FROM operator_log"))
    assert PASSWORD not in text
    assert "another password" not in text
    assert f"'{code}'" not in text


async def test_a_set_up_that_is_refused_is_in_the_log_without_its_link(console: Console) -> None:
    link = await console.desk.operators.add("ann", VIEWER, by="tests")
    form = {"password": PASSWORD, "again": PASSWORD, "code": "000000"}
    async with console.browser() as http:
        for path in (link, "nonsense"):
            await http.post(f"/setup/{path}", data=form, headers=SAME_ORIGIN)
        await http.post(f"/setup/{link}", data={**form, "again": "another"}, headers=SAME_ORIGIN)
    told = [
        (row.operator, row.subject_id, row.outcome, row.told.partition(":")[0])
        for row in await rows_of(console, action="set up sign-in")
    ]
    assert told == [
        ("ann", "ann", "refused", "wrong_code"),
        ("", "", "refused", "link_ended"),
        ("ann", "ann", "refused", "weak_password"),
    ]
    text = str(await console.desk.engine.pool.fetch("SELECT * FROM operator_log"))
    assert link not in text
    assert PASSWORD not in text


async def test_a_change_without_a_session_or_a_readable_form_is_in_the_log(console: Console) -> None:
    async with console.browser() as http:
        assert (await http.post("/operators/ann/role", data={"role": ADMIN}, headers=SAME_ORIGIN)).status_code == 303
        assert (await http.post("/login", json={}, headers=SAME_ORIGIN)).status_code == 415
    told = [(row.operator, row.action, row.outcome, row.told) for row in await rows_of(console)]
    assert told[0] == ("", "POST /operators/{name}/role", "refused", "there is no session")
    assert told[1][:3] == ("", "POST /login", "refused")
    assert told[1][3].startswith("unsupported_media_type")


async def test_a_link_is_in_no_log_of_a_failure(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    link = await console.desk.operators.add("ann", VIEWER, by="tests")
    monkeypatch.setattr(codes, "address_of", None)
    with capture_logs() as logs:
        assert (await console.browser().get(f"/setup/{link}")).status_code == 500
    assert [event["path"] for event in logs] == ["/setup/{link}"]
    assert link not in str(logs)


async def test_the_path_tells_the_log_what_an_action_is_about(console: Console) -> None:
    """A field of the form with the path's name says something else."""
    risk = await console.person(RISK)
    assert (await risk.act("/users/bob/freeze", user_id="alice")).status_code == 303
    rows = (await console.desk.log.page(Filter(action="freeze", outcome="asked"))).rows
    assert '"user_id":"bob"' in rows[0].arguments


JUNK = {f"x{number}": "y" * 300 for number in range(40)}


async def test_fields_that_no_page_has_hide_nothing(console: Console) -> None:
    admin, risk = await console.person(ADMIN), await console.person(RISK)
    await console.staff.sign_up("bob", VIEWER)
    assert (await admin.act("/operators/bob/role", role=FINANCE, **JUNK)).status_code == 303
    profile = await risk.act("/users/alice/profile", kind="merchant", transaction_fen_max="1000", **JUNK)
    assert profile.status_code == 303
    for action, field in (("change role", '"role":"finance"'), ("change a profile", '"kind":"merchant"')):
        asked, _ = await rows_of(console, action=action)
        assert field in asked.arguments


async def test_a_form_that_the_log_cannot_keep_is_refused_and_what_it_keeps_has_the_hash_of_all(
    console: Console,
) -> None:
    admin = await console.person(ADMIN)
    await console.staff.sign_up("bob", VIEWER)
    for junk in ({f"x{number}": "y" * 19_000 for number in range(3)}, {f"{n:064}": "" for n in range(900)}):
        answer = await admin.act("/operators/bob/role", role=FINANCE, **junk)
        assert answer.status_code == 413
    (bob,) = [one for one in await console.desk.operators.list() if one.name == "bob"]
    assert bob.role == VIEWER
    rows = await rows_of(console, action="change role")
    assert [row.outcome for row in rows] == ["asked", "refused"] * 2
    long_values, long_names = orjson.loads(rows[0].arguments), orjson.loads(rows[2].arguments)
    assert (long_values["role"], long_values["x2"][:3], long_values["x2"][-3:]) == (FINANCE, "yyy", "...")
    sent = {"name": "bob", "role": FINANCE, **{f"x{number}": "y" * 19_000 for number in range(3)}}
    whole = orjson.dumps(sent, option=orjson.OPT_SORT_KEYS)
    assert long_values["sha256_of_the_whole"] == sha256(whole).hexdigest()
    assert list(long_names) == ["sha256_of_the_whole"]
    assert max(len(row.arguments) for row in rows) <= ARGUMENTS_LENGTH_MAX


async def test_long_fields_are_in_the_log_whole(console: Console) -> None:
    risk = await console.person(RISK)
    networks = "\n".join(f"10.0.{number}.0/24" for number in range(100))
    assert (await risk.act("/users/alice/profile", kind="merchant", addresses=networks)).status_code == 303
    asked, _ = await rows_of(console, action="change a profile")
    assert orjson.loads(asked.arguments)["addresses"] == networks


async def test_every_row_that_was_retried_is_in_the_log(console: Console) -> None:
    finance = await console.person(FINANCE)
    ids = [str(10**17 + number) for number in range(AT_ONCE_MAX)]
    form = {"key": new_key(), "reason": "a test", "id": ids}
    assert (await finance.http.post("/quarantine/retry", data=form, headers=SAME_ORIGIN)).status_code == 200
    asked, _ = await rows_of(console, action="retry quarantine")
    assert orjson.loads(asked.arguments)["id"] == ids


async def test_a_file_that_is_cut_off_has_its_outcome(console: Console) -> None:
    """Who takes nearly all of a file and hangs up is in the log like everybody else."""
    admin = await console.person(ADMIN)
    has_begun = asyncio.Event()
    asked = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, object]:
        if (message := next(asked, None)) is not None:
            return message
        await has_begun.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, object]) -> None:
        if message["type"] == "http.response.body":
            has_begun.set()

    headers = {"host": "console.test", "cookie": f"{COOKIE}={admin.http.cookies[COOKIE]}"}
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/log.csv",
        "query_string": b"",
        "headers": [(name.encode(), text.encode()) for name, text in headers.items()],
        "client": ("127.0.0.1", 1),
    }
    await console.app(scope, receive, send)  # type: ignore[operator]
    rows = await rows_of(console, action="export log")
    assert [(row.outcome, row.about) for row in rows] == [("asked", None), ("failed", rows[0].number)]


async def test_looks_at_a_persons_money_are_in_the_log(console: Console) -> None:
    person = await console.person(FINANCE)
    await person.get("/deposits?user_id=alice&amount=1")
    (row,) = await rows_of(console, operator=person.name)
    assert (row.action, row.outcome, row.subject_kind, row.subject_id) == ("look at a deposit", "ok", "user", "alice")


async def test_filters_find_rows_and_pages_have_each_row_once(console: Console) -> None:
    admin, log = await console.person(ADMIN), console.desk.log
    for number in range(120):
        actor = Actor(name=f"op-{number % 3}", role=VIEWER, address="127.0.0.1")
        await log.write(actor, f"act {number % 2}", OK, subject=("user", str(10**18 + number)), reason=f"n{number}")
    first = await admin.get("/log?operator=op-1")
    assert first.text.count('<tr id="row-') == 40
    assert "1000000000000000001" in first.text
    wanted = Filter(operator="op-0", action="act 0")
    assert len((await log.page(wanted, limit=200)).rows) == 20
    seen: list[int] = []
    path = "/log"
    while path:
        text = (await admin.get(path)).text
        seen += [int(part.partition('"')[0]) for part in text.split('<tr id="row-')[1:]]
        path = text.split('rel="next" href="')[1].partition('"')[0] if 'rel="next"' in text else ""
    assert seen == sorted(set(seen), reverse=True)
    assert len(seen) == 120
    one = await admin.get("/log?kind=user&id=1000000000000000007")
    assert one.text.count('<tr id="row-') == 1
    assert (await admin.get("/log?from=2001-01-01&to=2001-01-02")).text.count('<tr id="row-') == 0


async def test_the_file_has_exactly_the_rows_of_the_filter_and_no_formula(console: Console) -> None:
    admin, log = await console.person(ADMIN), console.desk.log
    for number in range(450):
        actor = Actor(name="op", role=VIEWER, address="127.0.0.1")
        reason = ["=1+1", "@x", "+1", "-cmd", 'a "quoted", text', "two\nlines"][number % 6]
        await log.write(actor, "act", OK, subject=("packet", str(10**18 + number)), reason=reason)
    answer = await admin.get("/log.csv?operator=op")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"].startswith('attachment; filename="log_20')
    assert answer.content.startswith(b"\xef\xbb\xbf")
    assert b"\r\n" in answer.content
    rows = list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))
    assert len(rows) == 451
    assert rows[0][0] == "Number"
    ids = [row[8].strip() for row in rows[1:]]
    assert ids == [str(10**18 + number) for number in reversed(range(450))]
    assert all(row[8].startswith("\t") for row in rows[1:])  # a spreadsheet would round it
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows[1:] for cell in row)
    exported = await rows_of(console, action="export log")
    assert [row.outcome for row in exported] == ["asked", "ok"]
    assert exported[1].told == "450 rows"
    assert '"operator":"op"' in exported[0].arguments
    assert (await admin.get("/log.csv?from=x")).status_code == 422


async def test_nothing_in_the_log_can_be_changed(console: Console) -> None:
    await console.desk.log.write(COMMAND_LINE, "act", ASKED)
    for statement in (
        "UPDATE operator_log SET reason = 'x'",
        "DELETE FROM operator_log",
        "TRUNCATE operator_log",
        "DELETE FROM operator_log_head",
        "DELETE FROM approvals",
        "DELETE FROM operators",
    ):
        with pytest.raises(asyncpg.RaiseError):
            await console.desk.engine.pool.execute(statement)


async def test_writers_at_once_make_one_chain(console: Console) -> None:
    import asyncio

    log = OperatorLog(console.desk.engine.pool)
    await asyncio.gather(*(log.write(COMMAND_LINE, f"act {number}", OK, told="\x00\ud800") for number in range(30)))
    rows = await console.desk.engine.pool.fetch("SELECT * FROM operator_log ORDER BY number")
    previous = b""
    for number, row in enumerate(rows, start=1):
        assert row["number"] == number
        assert row["hash"] == row_hash(previous, [row[column] for column in COLUMNS])
        previous = row["hash"]


CELLS = [
    (None, ""),
    (12, "12"),
    (-12, "-12"),
    (Plain("-12.34"), "-12.34"),
    (Plain("2026-11-28T07:03:00+08:00"), "2026-11-28T07:03:00+08:00"),
    ("12", "12"),
    ("-12", "-12"),
    ("00123", "\t00123"),
    ("1e5", "\t1e5"),
    ("2026-11-28", "\t2026-11-28"),
    ("1,234", '"\t1,234"'),
    ("-12.34x", "'-12.34x"),
    ("=1", "'=1"),
    ("\tx", "'\tx"),
    ("\n=1", '"\'\n=1"'),
    (" =1", "' =1"),
    ("\uff1d1", "'\uff1d1"),
    ("\u3000\uff20x", "'\u3000\uff20x"),
    ("1000000000000000000", "\t1000000000000000000"),
    (999_999_999_999_999, "999999999999999"),
    ('a"b', '"a""b"'),
    ("红包", "红包"),
    ("٣٤٥٦٧٨٩٠١٢٣٤٥٦٧٨", "٣٤٥٦٧٨٩٠١٢٣٤٥٦٧٨"),
]


@pytest.mark.parametrize(("value", "cell"), CELLS)
def test_a_cell_is_what_a_spreadsheet_shows_and_runs_nothing(value: str | int | None, cell: str) -> None:
    assert csv_files.line([value]) == f"{cell}\r\n"


async def numbers(count: int) -> AsyncIterator[csv_files.Row]:
    for number in range(count):
        yield [number]


async def test_a_file_has_all_rows_or_there_is_none() -> None:
    file, count = await csv_files.whole(["n"], numbers(100_000), rows_max=100_000)
    ended: list[bool] = []
    with file:
        pieces = [piece async for piece in csv_files.pieces(file, lambda: ended.append(True))]
    assert b"".join(pieces).count(b"\r\n") == 100_001
    assert (count, ended) == (100_000, [True])
    assert len(pieces) > 1
    assert max(map(len, pieces)) <= 2**16
    with pytest.raises(csv_files.TooManyRowsError, match="more than 1,000 rows"):
        await csv_files.whole(["n"], numbers(1_001), rows_max=1_000)


async def test_a_list_with_more_rows_than_a_file_may_have_is_refused_and_the_page_says_so_before(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def few(*_args: object, **options: object) -> object:
        return await whole(*_args, rows_max=5)  # type: ignore[arg-type]

    whole = csv_files.whole
    admin = await console.person(ADMIN)
    for number in range(6):
        await console.desk.log.write(COMMAND_LINE, f"row {number}", OK)
    page = (await admin.get("/log")).text
    assert "at most 100,000 rows, else it is refused" in page
    assert (await admin.get("/log.csv")).status_code == 200
    monkeypatch.setattr(csv_files, "whole", few)
    for language, told in (("en", "more than 5 rows"), ("zh", "超过 5 行")):
        answer = await admin.get(f"/log.csv?lang={language}")
        assert answer.status_code == 409
        assert told in answer.text
        assert "content-disposition" not in answer.headers
    (row,) = (await console.desk.log.page(Filter(outcome="refused"), limit=1)).rows
    assert row.told.startswith("The list has more than 5 rows")
