"""The runbook of a bad entry (docs/runbooks/bad-entry.md), command by command, on a lane that one stops."""

import re

import orjson
import pytest

from engine.engine import Engine
from engine.errors import UnavailableError
from engine.lanes.clients import command
from engine.settings import Settings
from tests.support.bad_entries import NEWER, last_entry, put_counted, put_foreign, spoil
from tests.support.commands import hongbao, sentence
from tests.support.lost_lanes import assert_in_order
from tests.support.repository import ROOT
from tests.support.scenes import caught_up, changed, persisting, send

pytestmark = pytest.mark.long

RUNBOOK = (ROOT / "docs" / "runbooks" / "bad-entry.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^ +hongbao (.+)$", RUNBOOK, re.MULTILINE)
"""The commands, as they are written there: of lane 0, and of an entry 606-0."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """One lane, as the runbook has it."""
    return changed(settings, lanes=1)


def variables(settings: Settings) -> dict[str, str]:
    return {
        "HONGBAO_REDIS_URL": str(settings.redis_url),
        "HONGBAO_DATABASE_URL": str(settings.database_url),
        "HONGBAO_DATA_DIR": str(settings.data_dir),
        "HONGBAO_LANES": "1",
    }


async def claim(engine: Engine, packet_id: str, first: int, count: int) -> None:
    await engine.claims.claim_many([(packet_id, f"user{number}") for number in range(first, first + count)])


async def at_605(engine: Engine) -> str:
    """A lane that has emitted 605 changes, of which the ledger has all; a packet with shares left."""
    sent = await send(engine, count=1_000, total_fen=100_000)
    await claim(engine, sent.packet_id, 0, 604)
    async with persisting(engine.settings):
        await caught_up(engine)
    return sent.packet_id


async def test_the_runbook_is_true(settings: Settings) -> None:
    env = variables(settings)
    async with Engine.open(settings) as engine:
        packet = await at_605(engine)
        assert await put_foreign(engine) == "606-0"
        with pytest.raises(UnavailableError):
            await engine.claims.claim(packet, "ann")
        looked = [line for line in hongbao("doctor", **env).stdout.splitlines() if line.startswith("problem lane 0")]
        assert len(looked) == 1
        assert looked[0] in RUNBOOK
        recovered = hongbao("recover", **env)
        assert recovered.returncode == 1
        assert recovered.stdout.strip() in RUNBOOK
        audited = hongbao("audit", **env)
        assert audited.returncode == 1
        assert "Lane 0 has a bad entry at 606-0" in audited.stdout
        (aside,) = [words for words in SHOWN if words.startswith("quarantine set-aside")]
        done = hongbao(*re.sub(r'"(.+)"', lambda reason: reason[1].replace(" ", "_"), aside).split(), **env)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.strip() in RUNBOOK
        await engine.claims.claim(packet, "ann")
        async with persisting(settings):
            await caught_up(engine)
        assert hongbao("quarantine", "list", **env).stdout == "nothing is in quarantine\n"
        listed = hongbao("quarantine", "entries", **env).stdout
        assert re.fullmatch(r"1  \S+  lane 0, entry 606-0, for 0 changes \(0 found\): .+ \[set aside by .+\]\n", listed)
        (entry,) = orjson.loads(hongbao("quarantine", "entries", "--json", **env).stdout)
        assert (entry["entry_id"], bytes.fromhex(entry["fields"][1])) == ("606-0", b"garbage")
        assert hongbao("audit", **env).returncode == 0
        await assert_in_order(engine)


async def test_each_command_of_the_runbook_is_one_of_those_tried_here() -> None:
    assert {" ".join(words.split()[:2]) for words in SHOWN} == {
        *("doctor", "audit", "recover"),
        *("quarantine set-aside", "quarantine entries", "quarantine list"),
    }


async def test_changes_that_nobody_knows_are_listed_and_written_off(settings: Settings) -> None:
    env = variables(settings)
    async with Engine.open(settings) as engine:
        await at_605(engine)
        entry_id = await put_counted(engine, changes=2)
        done = hongbao("quarantine", "set-aside", "0", entry_id.removesuffix("-0"), "--reason", "x", "--json", **env)
        assert done.returncode == 0, done.stderr
        assert "2 of them are unknown" in orjson.loads(done.stdout)["sentence"]
        listed = hongbao("quarantine", "list", **env).stdout
        assert "lane 0, change 607: some of its changes: 2 changes are not known" in listed
        assert hongbao("audit", **env).returncode == 1
        assert hongbao("quarantine", "write-off", "1", "--reason", "never were", **env).returncode == 0
        assert hongbao("audit", **env).returncode == 0


async def test_what_it_refuses_is_a_sentence(settings: Settings) -> None:
    env = variables(settings)
    async with Engine.open(settings) as engine:
        await at_605(engine)
        for words, expected in [
            (("9", "7-0"), "There is no lane 9."),
            (("0", "seven"), "An entry is named by a position (7) or an ID (7-0)."),
            (("0", "7-0"), "No entry stops lane 0."),
        ]:
            assert sentence(hongbao("quarantine", "set-aside", *words, "--reason", "x", **env)) == expected
        await engine.claims.claim((await send(engine, count=2)).packet_id, "ann")
        entry_id = await last_entry(engine)
        await spoil(engine, entry_id, NEWER)
        told = sentence(hongbao("quarantine", "set-aside", "0", entry_id, "--reason", "x", **env))
        assert "upgrade" in told
        assert "--force" in told
        forced = hongbao("quarantine", "set-aside", "0", entry_id, "--reason", "x", "--force", **env)
        assert forced.returncode == 0, forced.stderr
        assert await command(engine.redis, "XLEN", "{hongbao:000}:events") == 0
        await assert_in_order(engine)
