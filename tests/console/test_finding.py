"""Point 16: what is typed into the one box lands on its page, and numbers of 19 digits stay whole."""

import re
from html import unescape
from uuid import uuid4

import pytest

from engine.campaigns import lists
from engine.search import SQL as SEARCH
from engine.settings import Settings
from tests.support.console import open_console
from tests.support.console_pages import page_of, rows, words
from tests.support.coupons import make_batch, with_keys
from tests.support.dispute_scene import Scene, claimed_packet, with_small_disputes
from tests.support.funds import make_fundraiser
from tests.support.scenes import fund, persisting, send, settled
from tests.support.wechatpay import MCH_ID, SHOP, merchant_of, with_sealing


@pytest.mark.long
async def test_each_id_leads_to_its_page(settings: Settings) -> None:
    wanted = with_small_disputes(settings)
    async with open_console(wanted) as console:
        engine, person = console.desk.engine, await console.person("finance")
        async with persisting(wanted):
            number, at_ms = await claimed_packet(engine, "bob", "carol")
            await send(engine, "erin", total_fen=5, count=1, label="spring")
            await settled(engine, number)
            for _ in range(3):  # so that numbers of disputes and withdrawals differ
                await fund(engine, "erin", 1_000)
            await engine.payment_passwords.put("erin", "135790", None)
            await Scene(engine, number, at_ms).file()
            for key in range(2):
                await engine.withdrawals.withdraw(
                    "erin", 100, "6222020200112233", "135790", idempotency_key=f"{key}{uuid4().hex}", request_hash=b"w"
                )
        places = {
            number: f"/packets/{number}",
            "bob": "/users/bob",
            "spring": "/labels/spring",
            "2": "/withdrawals/2",
        }
        for text, place in places.items():
            answer = await person.get(f"/search?q={text}")
            assert (answer.status_code, answer.headers.get("location")) == (303, place), text
        assert number in words(await page_of(person, f"/packets/{number}"))
        assert "•••• 2233" in words(await page_of(person, "/withdrawals/2"))
        answer = await person.get("/labels/spring")
        assert answer.headers["location"] == "/labels?label=spring"
        both = words(await page_of(person, "/search?q=1"))  # a dispute and a withdrawal
        assert "/disputes/1" in await page_of(person, "/search?q=1")
        assert "/withdrawals/1" in await page_of(person, "/search?q=1")
        assert "Dispute" in both
        await page_of(person, "/withdrawals/9", 404)


@pytest.mark.parametrize("text", ["999999999999999999", "nobody", "%00", "'; DROP TABLE packets; --", "٣"])
async def test_what_there_is_not_is_said(settings: Settings, text: str) -> None:
    async with open_console(settings) as console:
        person = await console.person("viewer")
        answer = await person.get(f"/search?q={text}")
        assert answer.status_code in (200, 400)


NAMED = """
WITH made AS (
    INSERT INTO campaigns (owner, name, odds_millionths, seed, commitment, created_at_ms)
    SELECT 'mall', name, 1000000, sha256(convert_to(name, 'UTF8')), '', 1 FROM unnest($1::text[]) AS name
    RETURNING campaign_id
), waves AS (
    INSERT INTO campaign_waves (campaign_id, wave, starts_at_ms, ends_at_ms) SELECT campaign_id, 1, 1, 2 FROM made
)
INSERT INTO campaign_prizes (campaign_id, wave, prize, split, total_fen, count)
SELECT campaign_id, 1, 1, 'lucky', 1, 1 FROM made
"""


async def test_what_has_a_name_is_found_by_how_it_begins(settings: Settings) -> None:
    wanted = with_sealing(with_keys(settings))
    async with open_console(wanted) as console:
        engine, person = console.desk.engine, await console.person("viewer")
        await make_batch(engine)
        await make_fundraiser(engine, title="Books for a school")
        await merchant_of(engine)
        await engine.displays.put("carol", "小红")
        await engine.pool.execute(NAMED, ["Spring Rain", "春节红包雨", "春节红包雨二"])
        order = f"""
            INSERT INTO wechatpay_orders (mch_id, api, number, kind, terms_hash, account, address, appid, openid,
                amount_fen, count, wishing, send_name, act_name, remark, asked_at_ms)
            VALUES ('{MCH_ID}', 'redpack', '0010010404201411170000046545', 'normal', sha256(''), '{SHOP}', '', 'wx',
                'o', 1, 1, '', '', '', '', 1)
        """
        await engine.pool.execute(order)
        shown = {
            "五元": "Coupon batch of mall 五元优惠券",
            "books": "Fundraiser of org Books for a school",
            "小": "Shown name of carol 小红",
            f"{MCH_ID}&all=1": f"WeChat Pay merchant, account {SHOP} {MCH_ID} exactly",
            "0010010404201411170000046545&all=1": "WeChat Pay order without a packet, account "
            f"{SHOP} 0010010404201411170000046545 exactly",
            "spr": "Campaign 1 Spring Rain",
        }
        for text, told in shown.items():
            assert rows(await page_of(person, f"/search?q={text}")) == [told], text
        assert (await person.get("/search?q=spring rain")).headers["location"] == "/campaigns/1"
        assert (await person.get(f"/search?q={MCH_ID}")).headers["location"] == f"/users/{SHOP}"
        assert (await person.get("/search?q=小红")).headers["location"] == "/users/carol"
        many = await page_of(person, "/search?q=春节红包雨")
        assert rows(many) == ["Campaign 2 春节红包雨 exactly", "Campaign 3 春节红包雨二"]
        assert 'href="/campaigns?name=%E6%98%A5' in many
        # A name that somebody has chosen never leads away from what has this id.
        await engine.displays.put("mallory", "carol")
        await fund(engine, "carol", 1)
        assert (await person.get("/search?q=carol")).headers["location"] == "/users/carol"


async def test_campaigns_are_listed_by_how_their_names_begin(settings: Settings) -> None:
    async with open_console(settings) as console:
        engine, person = console.desk.engine, await console.person("viewer")
        names = [f"Rain {number % 7}" for number in range(60)] + ["Rai", "Raj", "雨"]
        await engine.pool.execute(NAMED, names)
        found, after = list[str](), None
        for _ in range(9):
            page, after = await lists.page(engine.pool, name="rain", after=after, limit=13)
            found += [f"{row.name} {int(row.campaign_id):03}" for row in page]
            if after is None:
                break
        assert found == sorted(found)
        assert len(found) == len(set(found)) == 60
        first = await page_of(person, "/campaigns?name=rain")
        assert len(rows(first)) == 50
        (following,) = re.findall(r'rel="next" href="([^"]+)"', first)
        assert len(rows(await page_of(person, unescape(following)))) == 10
        assert rows(await page_of(person, "/campaigns?name=rain&owner=nobody")) == []
        await page_of(person, f"/campaigns?name={'x' * 201}", 422)


async def test_names_are_found_by_indexes(settings: Settings) -> None:
    async with open_console(settings) as console, console.desk.engine.pool.acquire() as connection:
        await connection.execute(NAMED, [f"{number} rain" for number in range(5_000)])
        await connection.execute("INSERT INTO displays SELECT 'u' || n, 'n' || n, 1 FROM generate_series(1, 5000) AS n")
        await connection.execute("ANALYZE campaigns; ANALYZE displays")
        await connection.execute("SET plan_cache_mode = force_custom_plan")
        found = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {SEARCH['find']}", "17", None, 17, 100))
        for index in ("campaigns_by_name", "displays_by_name"):
            assert index in found, found
        listed = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {lists.SQL['lines']}", None, 0, 51, "17"))
        assert "campaigns_by_name" in listed, listed
        assert "Seq Scan on campaigns" not in listed, listed
