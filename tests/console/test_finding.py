"""Point 16: what is typed into the one box lands on its page, and numbers of 19 digits stay whole."""

from uuid import uuid4

import pytest

from engine.settings import Settings
from tests.support.console import open_console
from tests.support.console_pages import page_of, words
from tests.support.dispute_scene import Scene, claimed_packet, with_small_disputes
from tests.support.scenes import fund, persisting, send, settled


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
