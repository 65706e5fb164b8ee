"""forget.lua on a standalone and on a cluster-enabled server: packets whose end the ledger has go after a while."""

from collections.abc import Sequence
from importlib.resources import files

import pytest

from engine.lanes import keys
from engine.lanes.clients import command
from engine.lanes.scripts import Script
from engine.lanes.stream import FORGOTTEN_PER_CALL_MAX
from tests.support.lane import Lane

KEPT_MS = 60_000


async def left_ms(lane: Lane, packet: str) -> list[int]:
    """How long what is there of a packet still lives: -1 for ever."""
    found = [int(await command(lane.client, "PTTL", name)) for name in keys.all_of(packet)]
    return [left for left in found if left != -2]


async def forget(lane: Lane, names: Sequence[str], retention_ms: int | str) -> str:
    """Call the script by itself."""
    (word,) = await command(lane.client, "EVAL", Script("forget").source, len(names), *names, retention_ms)
    return str(word, "ascii")


async def test_what_there_is_of_a_packet_goes_after_a_while(lane: Lane) -> None:
    packet, other = await lane.open([5], recipients=["ada"]), await lane.open([5])
    await lane.claim({packet: ["ada"], other: ["ada"]})
    assert await forget(lane, keys.kept_of(packet), KEPT_MS) == "FORGOTTEN"
    assert [0 < left <= KEPT_MS for left in await left_ms(lane, packet)] == [True] * 3
    assert await left_ms(lane, other) == [-1] * 2
    assert await forget(lane, keys.kept_of(packet), 1_000) == "FORGOTTEN"
    assert max(await left_ms(lane, packet)) <= 1_000
    assert await forget(lane, [], KEPT_MS) == "FORGOTTEN"


@pytest.mark.parametrize("count", [FORGOTTEN_PER_CALL_MAX, FORGOTTEN_PER_CALL_MAX + 1])
async def test_many_packets_are_forgotten_in_several_calls(lane: Lane, count: int) -> None:
    packets = [await lane.open([5]) for _ in range(count)]
    for first in range(0, count, 100):
        await lane.claim({packet: ["ada"] for packet in packets[first : first + 100]})
    await lane.stream.forget([int(packet) for packet in packets], retention_ms=KEPT_MS)
    for packet in packets:
        assert [0 < left <= KEPT_MS for left in await left_ms(lane, packet)] == [True] * 2


async def test_what_is_not_of_its_form_changes_nothing(lane: Lane) -> None:
    packet = await lane.open([5])
    before = await lane.everything()
    kept = [*keys.kept_of(packet)]
    for names, retention_ms in (
        (kept[:2], "1000"),
        (kept * (FORGOTTEN_PER_CALL_MAX + 1), "1000"),
        (kept, "soon"),
        (kept, ""),
    ):
        assert await forget(lane, names, retention_ms) == "MALFORMED"
    assert await lane.everything() == before
    assert await left_ms(lane, packet) == [-1] * 2  # no claims yet: the packet and its shares


def test_its_bound_is_what_the_persister_sends() -> None:
    source = files("lua").joinpath("forget.lua").read_text(encoding="utf-8")
    assert f"#KEYS > {FORGOTTEN_PER_CALL_MAX * 3} " in source
    assert f"at most {FORGOTTEN_PER_CALL_MAX} packets" in source
