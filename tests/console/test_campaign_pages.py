"""The console's campaigns: made by one operator, paid when another approves, watched, changed, ended."""

import csv
import io
from collections.abc import AsyncIterator
from uuid import uuid4

import orjson
import pytest

from api.console.filtering import amount_of
from api.console.pages.campaign_drafts import FUND
from api.console.pages.campaigns import local, moment
from engine.campaigns import checking
from engine.campaigns import terms as campaign_terms_module
from engine.ledger.money import now_ms
from engine.operators.actions import Doing
from engine.operators.log import Filter
from engine.operators.roles import ADMIN, FINANCE, ROLES, VIEWER
from engine.risk.limits import AccountKind
from engine.settings import Settings
from tests.support.console import Console, Person, new_key, open_console, words_of
from tests.support.rains import grab_until_told, make, ready, running
from tests.support.scenes import assert_books_balance, caught_up, changed, fund, persisting, sweeping
from tests.support.waiting import wait_until


@pytest.fixture
async def console(settings: Settings) -> AsyncIterator[Console]:
    async with open_console(changed(settings, lanes=4)) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waves may start at once."""
    monkeypatch.setattr(campaign_terms_module, "LEAD_S_MIN", 0)


async def merchant(console: Console, user_id: str = "mall", amount_fen: int = 100_000) -> None:
    await fund(console.desk.engine, user_id, amount_fen)
    await console.desk.engine.profiles.put(user_id, AccountKind.MERCHANT, [], {}, changed_by="tests")


async def form(console: Console, **more: str) -> dict[str, str]:
    """The form of a campaign of a wave that starts in an hour."""
    starts_at_ms = await now_ms(console.desk.looks) + 3_600_000
    return {
        "owner": "mall",
        "name": "春节红包雨",
        "waves": "1",
        "prizes": "1",
        "w1_starts": local(starts_at_ms),
        "w1_seconds": "60",
        "w1p1_split": "lucky",
        "w1p1_total": "600.00",
        "w1p1_count": "300",
        "odds": "80",
        **more,
    }


async def approved(console: Console, asker: Person, fields: dict[str, str], approver: Person) -> str:
    """Have a campaign paid by two operators. Returns its number."""
    asked = await asker.act("/campaigns", **fields)
    assert asked.status_code == 303, words_of(asked.text)
    approval_id = int(asked.headers["location"].rpartition("/")[2].partition("?")[0])
    approval = await console.desk.approvals.get(approval_id)
    result = await console.desk.approvals.approve(
        approval_id, console.desk.actions, console.desk, by=approver.operator, seen_hash=approval.hash, reason="seen"
    )
    return str(result["campaign_id"])


async def test_another_number_of_waves_loses_nothing_that_was_typed(console: Console) -> None:
    alice = await console.person(FINANCE, "alice")
    page = (await alice.act("/campaigns/new", **await form(console, waves="2", again="yes"))).text
    assert 'value="春节红包雨"' in page
    assert 'value="600.00"' in page
    assert 'name="w2_starts"' in page
    assert 'class="wrong"' not in page


async def test_a_payer_who_is_no_merchant_is_told_of_with_the_forms_own_words(console: Console) -> None:
    alice = await console.person(FINANCE, "alice")
    answer = await alice.act("/campaigns/new", **await form(console, w1p1_total="x"))
    assert answer.status_code == 422
    assert "Wave 1: Total must be an amount" in words_of(answer.text)
    answer = await alice.act("/campaigns/new", **await form(console))
    assert answer.status_code == 422
    assert "Paid by this merchant must be a merchant" in words_of(answer.text)


async def test_a_wave_that_was_not_filled_in_is_not_left_out_in_silence(console: Console) -> None:
    await merchant(console)
    alice = await console.person(FINANCE, "alice")
    answer = await alice.act("/campaigns/new", **await form(console, waves="2"))
    assert answer.status_code == 422
    assert "Wave 2: Starts, in China must be a time" in words_of(answer.text)


async def test_a_campaign_is_paid_once_when_another_operator_approves(console: Console) -> None:
    await merchant(console)
    alice, bob = await console.person(FINANCE, "alice"), await console.person(FINANCE, "bob")
    fields = await form(console)
    shown = await alice.act("/campaigns/new", **fields)
    assert shown.status_code == 200, words_of(shown.text)
    told = words_of(shown.text)
    assert "600.00 CNY" in told
    assert "1000.00 → 400.00 CNY" in told
    assert "hongbao campaign 1" in told
    assert await console.desk.engine.pool.fetchval("SELECT count(*) FROM campaigns") == 0
    campaign_id = await approved(console, alice, fields, bob)
    view = await console.desk.engine.campaign_views.get(campaign_id)
    assert (view.owner, view.count, view.odds_millionths) == ("mall", 300, 800_000)
    assert (await console.desk.engine.wallets.get("mall")).balance_fen == 40_000
    page = await alice.get(f"/campaigns/{campaign_id}")
    assert view.commitment in page.text
    await assert_books_balance(console.desk.engine.pool)


async def test_the_same_form_sent_twice_and_an_approval_done_twice_pay_once(console: Console) -> None:
    await merchant(console)
    alice, bob = await console.person(FINANCE, "alice"), await console.person(FINANCE, "bob")
    fields, key = await form(console), new_key()
    first = await alice.act("/campaigns", **fields, key=key)
    again = await alice.act("/campaigns", **fields, key=key)
    assert first.headers["location"] == again.headers["location"]
    approval_id = int(first.headers["location"].rpartition("/")[2].partition("?")[0])
    desk = console.desk
    approval = await desk.approvals.get(approval_id)
    action = desk.actions.get(FUND)
    assert action is not None
    async with (
        desk.engine.pool.acquire() as connection
    ):  # it was paid, and the process died before the approval said so
        doing = Doing(
            tools=desk,
            connection=connection,
            arguments=approval.arguments,
            reason="a test",
            key=f"approval {approval_id}",
            by=bob.name,
            asked_by=alice.name,
        )
        result = await action.execute(doing)
    repeated = await desk.approvals.approve(
        approval_id, desk.actions, desk, by=bob.operator, seen_hash=approval.hash, reason="seen"
    )
    assert repeated["campaign_id"] == result["campaign_id"]
    assert (await desk.engine.wallets.get("mall")).balance_fen == 40_000


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"owner": "no one"}, "Paid by this merchant must "),
        ({"owner": "alice"}, "Paid by this merchant must be a merchant"),
        ({"name": ""}, "name "),
        ({"w1_starts": ""}, "Wave 1: Starts, in China must "),
        ({"w1_starts": "2020-01-01T00:00"}, "Wave 1: Starts, in China must "),
        ({"w1_starts": "tomorrow"}, "Wave 1: Starts, in China must "),
        ({"w1_seconds": "0"}, "Wave 1: Seconds must "),
        ({"w1_seconds": "9" * 30}, "Wave 1: Seconds must "),
        ({"w1p1_total": "6e2"}, "Wave 1: Total must "),
        ({"w1p1_total": "1.234"}, "Wave 1: Total must "),
        ({"w1p1_count": "-3"}, "Wave 1: Shares must "),
        ({"w1p1_count": "70000"}, "Wave 1: Total "),
        ({"w1p1_asset": "GOLD"}, "Wave 1: Asset "),
        ({"w1p1_split": "unfair"}, "Wave 1: Split must "),
        ({"w1p1_total": "", "w1p1_count": ""}, "Wave 1: Prizes in each "),
        ({"odds": "100.1"}, "odds "),
        ({"odds": "0"}, "odds "),
        ({"who": "friends"}, "who "),
        ({"who": "listed"}, "guests "),
        ({"guests": "bob", "who": "anyone"}, "guests "),
        ({"wave_wins_max": "x"}, "wave_wins_max "),
        ({"wins_max": "0"}, "wins_max "),
        ({"lanes": "99"}, "lanes "),
    ],
)
async def test_each_bad_field_is_named_and_the_form_keeps_what_was_typed(
    console: Console, more: dict[str, str], field: str
) -> None:
    await merchant(console)
    alice = await console.person(FINANCE, "alice")
    fields = await form(console, **more)
    answer = await alice.act("/campaigns/new", **fields)
    assert answer.status_code == 422
    assert field in words_of(answer.text)
    assert 'value="mall"' in answer.text or "owner" in more
    paid = await alice.act("/campaigns", **fields)
    assert paid.status_code == 422
    assert await console.desk.engine.pool.fetchval("SELECT count(*) FROM approvals") == 0


async def test_a_merchant_without_the_money_is_told_when_it_is_approved(console: Console) -> None:
    from engine.errors import InsufficientFundsError

    await merchant(console, amount_fen=59_999)
    alice, bob = await console.person(FINANCE, "alice"), await console.person(FINANCE, "bob")
    with pytest.raises(InsufficientFundsError):
        await approved(console, alice, await form(console), bob)
    assert (await console.desk.engine.wallets.get("mall")).balance_fen == 59_999


async def test_several_waves_prizes_and_guests(console: Console) -> None:
    await merchant(console)
    assets = console.desk.engine.assets
    await assets.define("POINTS", scale=0, name="points")
    await assets.issue("mall", 900, await assets.named("POINTS"), idempotency_key=uuid4().hex, request_hash=b"x")
    alice, bob = await console.person(FINANCE, "alice"), await console.person(FINANCE, "bob")
    later = local(await now_ms(console.desk.looks) + 7_200_000)
    fields = await form(
        console,
        waves="2",
        prizes="2",
        w1p2_asset="POINTS",
        w1p2_total="900",
        w1p2_count="30",
        w1p2_split="equal",
        w2_starts=later,
        w2_seconds="5",
        w2p1_total="100",
        w2p1_count="4",
        who="listed",
        guests="ada bob\nced",
        wins_max="2",
        lanes="2",
        interval_ms="500",
    )
    shown = words_of((await alice.act("/campaigns/new", **fields)).text)
    assert "900 POINTS" in shown
    assert "30 30 30" in shown  # equal shares
    campaign_id = await approved(console, alice, fields, bob)
    view = await console.desk.engine.campaign_views.get(campaign_id)
    assert [[prize.count for prize in wave.prizes] for wave in view.waves] == [[300, 30], [4]]
    assert (view.who, view.wins_max, view.interval_ms, view.lanes) == ("listed", 2, 500, 2)
    assert "+ 1 asset" in words_of((await alice.get("/campaigns")).text)


@pytest.mark.long
async def test_a_campaign_is_watched_from_its_arming_to_its_proof(console: Console) -> None:
    engine = console.desk.engine
    viewer = await console.person(VIEWER, "vera")
    async with persisting(engine.settings), sweeping(engine.settings):
        made = await make(engine, (2_500, 6, 1_000, 10))
        path = f"/campaigns/{made.campaign_id}"
        await wait_until(lambda: ready(engine, made.campaign_id), what="the shares being in Redis")
        assert "armed" in words_of((await viewer.get(path)).text)
        await running(engine, made.campaign_id, 1)
        for number in range(4):
            await grab_until_told(engine, made.campaign_id, f"user-{number}")

        async def told() -> bool:
            part = await viewer.get(f"{path}/part")
            return "5 of 10 shares" in words_of(part.text)

        await wait_until(told, what="four shares, and that of the helper, on the page")
        early = await viewer.get(f"{path}/proof.json")
        assert early.status_code == 409

        async def settled() -> bool:
            return (await engine.campaign_views.get(made.campaign_id)).is_settled

        await wait_until(settled, timeout_s=60, what="the settlement")
        await caught_up(engine)
    last = await viewer.get(f"{path}/part")
    assert "hx-trigger" not in last.text  # nothing changes any more
    proof = await viewer.get(f"{path}/proof.json")
    assert proof.status_code == 200
    assert checking.verify(checking.read(proof.content), made.commitment) == []
    assert orjson.loads(proof.content)["campaign_id"] == made.campaign_id
    rows = (await console.desk.log.page(Filter(action="export a proof"))).rows
    assert [row.outcome for row in rows] == ["ok", "asked", "refused", "asked"]
    assert {(row.operator, row.subject_id) for row in rows} == {("vera", made.campaign_id)}


async def test_pause_resume_extend_and_end(console: Console) -> None:
    engine = console.desk.engine
    alice = await console.person(FINANCE, "alice")
    async with sweeping(engine.settings):
        made = await make(engine, (60_000, 60, 1_000, 10))
        await wait_until(lambda: ready(engine, made.campaign_id), what="the shares being in Redis")
    path = f"/campaigns/{made.campaign_id}"
    assert (await alice.act(f"{path}/pause")).status_code == 303
    assert "Let it go on" in (await alice.get(path)).text
    assert "paused" in words_of((await alice.get("/campaigns")).text)
    assert (await alice.act(f"{path}/resume")).status_code == 303
    wave = (await engine.campaign_views.get(made.campaign_id)).waves[0]
    later = wave.ends_at_ms // 1_000 * 1_000 + 30_000
    assert (await alice.act(f"{path}/extend", wave="1", ends_at=local(later))).status_code == 303
    ends = await engine.pool.fetchval("SELECT ends_at_ms FROM campaign_waves")
    assert ends == later
    for fields in ({"wave": "1", "ends_at": local(later - 60_000)}, {"wave": "7", "ends_at": local(later)}):
        assert (await alice.act(f"{path}/extend", **fields)).status_code == 422
    for fields in ({"wave": "x", "ends_at": local(later)}, {"wave": "1", "ends_at": "soon"}):
        assert (await alice.act(f"{path}/extend", **fields)).status_code == 422
    assert (await alice.act(f"{path}/end", typed="yes")).status_code == 422
    assert (await alice.act(f"{path}/end", typed=made.campaign_id, reason="")).status_code == 422
    assert (await alice.act(f"{path}/end", typed=made.campaign_id, reason="a mistake")).status_code == 303
    assert "ended early" in words_of((await alice.get(path)).text)
    rows = await engine.pool.fetch(
        "SELECT action, outcome, reason FROM operator_log WHERE action = 'campaign.end' ORDER BY number"
    )
    assert [row["outcome"] for row in rows][-2:] == ["asked", "ok"]
    assert rows[-2]["reason"] == "a mistake"
    assert (await alice.act(f"{path}/pause")).status_code == 409


async def test_what_a_role_may_not_do_has_no_button_and_is_refused(console: Console) -> None:
    await merchant(console)
    engine = console.desk.engine
    made = await make(engine, (60_000, 60, 1_000, 10))
    path = f"/campaigns/{made.campaign_id}"
    for role, permissions in ROLES.items():
        person = await console.person(role)
        page, listed = await person.get(path), await person.get("/campaigns")
        assert page.status_code == 200
        may = "campaigns:write" in permissions
        assert (f'action="{path}/end"' in page.text) == may
        assert ('href="/campaigns/new"' in listed.text) == may
        assert ((await person.get("/campaigns/new")).status_code == 200) == may
        assert ((await person.get("/campaigns.csv")).status_code == 200) == ("campaigns:export" in permissions)
        if not may:
            for change in ("pause", "resume", "extend", "end"):
                assert (await person.act(f"{path}/{change}", typed=made.campaign_id)).status_code == 403
            assert (await person.act("/campaigns", **await form(console))).status_code == 403
    assert (await engine.campaign_views.get(made.campaign_id)).state != "over"


async def test_lists_are_filtered_paged_and_exported_whole(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.console.pages.campaigns._ROWS", 2)
    engine = console.desk.engine
    for owner in ("mall", "shop", "mall", "mall", "mall"):
        await make(engine, (3_600_000, 60, 100, 10), owner=owner)
    alice = await console.person(FINANCE, "alice")
    first = await alice.get("/campaigns?owner=mall")
    assert words_of(first.text).count("to come") == 2
    following = await alice.get("/campaigns?owner=mall&after=4")
    assert words_of(following.text).count("to come") == 2
    assert 'rel="next"' not in following.text
    file = await alice.get("/campaigns.csv?owner=mall")
    rows = list(csv.DictReader(io.StringIO(file.content.decode("utf-8-sig"))))
    assert [row["campaign"] for row in rows] == ["5", "4", "3", "1"]
    assert {row["state"] for row in rows} == {"to_come"}
    assert (await alice.get("/campaigns?owner=no%20one")).status_code == 200
    assert (await alice.get("/campaigns?after=x")).status_code == 422


@pytest.mark.parametrize("number", ["0", "99", "x", "9" * 30, "1;2", "01"])
async def test_a_number_that_no_campaign_has(console: Console, number: str) -> None:
    person = await console.person(FINANCE)
    for path in (f"/campaigns/{number}", f"/campaigns/{number}/part", f"/campaigns/{number}/proof.json"):
        assert (await person.get(path)).status_code == 404
    assert (await person.act(f"/campaigns/{number}/pause")).status_code == 404


async def test_both_languages(console: Console) -> None:
    made = await make(console.desk.engine, (3_600_000, 60, 100, 10))
    person = await console.person(ADMIN)
    for path in ("/campaigns", f"/campaigns/{made.campaign_id}"):
        assert "Waves" in (await person.get(f"{path}?lang=en")).text
        assert "红包雨" in words_of((await person.get(f"{path}?lang=zh")).text)


def test_times_and_amounts_as_they_are_typed() -> None:
    assert moment("2026-12-01T20:00") == moment("2026-12-01T20:00:00") == 1_796_126_400_000
    assert local(1_796_126_400_000) == "2026-12-01T20:00:00"
    for text in ("", "2026-12-01", "2026-13-01T20:00", "0000-01-01T00:00", "2026-12-01T20:00Z"):
        assert moment(text) is None
    assert [amount_of(text, 2) for text in ("12", "12.3", "1,234.50", "¥0.01")] == [1_200, 1_230, 123_450, 1]
    assert [amount_of(text, 0) for text in ("12", "12.0")] == [12, None]
    assert [amount_of(text, 2) for text in ("", "-1", "1.234", "1e3", "１", "9" * 17)] == [None] * 6


def test_a_comma_counts_only_between_thousands() -> None:
    right = {"1,234": 123_400, "12,345,678.9": 1_234_567_890, " ¥1,000.00 ": 100_000}
    assert {text: amount_of(text, 2) for text in right} == right
    wrong = (
        "12,34",
        "1,2",
        "1,",
        ",123",
        "1,,234",
        "1234,567",
        "12,345,67",
        "1,23,456",
        "12.345,00",
        "1.234,5",
        "1 234",
    )
    assert [text for text in wrong if amount_of(text, 2) is not None] == []
    assert [amount_of(text, 3) for text in ("1.234", "1,234", "0.1")] == [1_234, 1_234_000, 100]


async def test_a_decimal_comma_is_refused(console: Console) -> None:
    person = await console.person(FINANCE)
    answer = await person.act("/deposits", user_id="alice", amount="12,34")
    assert answer.status_code == 422
    assert "must be an amount as 12.34" in words_of(answer.text)
