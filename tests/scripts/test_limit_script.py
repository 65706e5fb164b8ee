"""limit.lua on a standalone and on a cluster-enabled server, and what claim.lua makes of it."""

import pytest

from engine.lanes import keys
from engine.lanes.clients import command
from engine.lanes.replies import Followed
from engine.lanes.store import LIMITED_PER_CALL_MAX
from engine.records import ClaimResult, LimitedResult, Outcome
from tests.support.lane import BACKLOG_MAX, EPOCH, FAR_FUTURE_MS, LANE, LONG_AGO_MS, Lane
from tests.support.waiting import wait_until


async def limited(lane: Lane) -> dict[str, int]:
    """What the lane knows: user -> until when."""
    found = await command(lane.client, "HGETALL", keys.limited(LANE))
    names = iter(found) if isinstance(found, list) else None
    pairs = dict(zip(names, names, strict=True)) if names is not None else found
    return {user.decode(): int(until_ms) for user, until_ms in pairs.items()}


async def ask(lane: Lane, packet: str, *users: str) -> list[ClaimResult]:
    return (await lane.store.claim(LANE, {packet: users}, backlog_max=BACKLOG_MAX)).results


async def test_a_limited_user_is_told_until_when(lane: Lane) -> None:
    packet = await lane.open([5, 7])
    assert await lane.store.limit(LANE, 0, 1, {"ada": FAR_FUTURE_MS}) == 1
    ada, bob, again = await ask(lane, packet, "ada", "bob", "ada")
    assert ada == again == LimitedResult(Outcome.LIMITED, 0, until_ms=FAR_FUTURE_MS)
    assert bob == ClaimResult(Outcome.CLAIMED, 5)
    await lane.assert_consistent(packet, [5, 7])


async def test_it_ends_by_itself(lane: Lane) -> None:
    packet = await lane.open([5, 7])
    await lane.store.limit(LANE, 0, 1, {"ada": await lane.store.now_ms(LANE) + 100, "bob": FAR_FUTURE_MS})

    async def has_won() -> bool:
        asked_ms = await lane.store.now_ms(LANE)
        (result,) = await ask(lane, packet, "ada")
        assert isinstance(result, LimitedResult) is (result.outcome is Outcome.LIMITED)
        return result.outcome is Outcome.CLAIMED or not (
            isinstance(result, LimitedResult) and result.until_ms > asked_ms
        )

    await wait_until(has_won, what="the end of ada's limit")
    assert await lane.claim({packet: ["bob"]}) == "L"


async def test_what_precedes_it_and_what_it_precedes(lane: Lane) -> None:
    won, taken, others, late, held = (
        await lane.open([5, 5]),
        await lane.open([5]),
        await lane.open([5], recipients=["bob"]),
        await lane.open([5]),
        await lane.open([5], recipients=["ada"], arrives_at_ms=FAR_FUTURE_MS),
    )
    assert await lane.claim({won: ["ada"], taken: ["bob"]}) == "CC"
    await lane.run_out(late)
    await lane.store.limit(LANE, 0, 1, {"ada": FAR_FUTURE_MS})
    assert await lane.claim({won: ["ada"], taken: ["ada"], others: ["ada"], late: ["ada"], held: ["ada"]}) == "AENXH"
    free = await lane.open([5])
    assert await lane.claim({free: ["ada"]}, backlog_max=0) == "L"  # before BUSY
    await lane.store.freeze(LANE, 0, 1, ["ada"], [])
    assert await lane.claim({free: ["ada"]}) == "F"


async def test_a_limit_that_is_changed_is_lifted(lane: Lane) -> None:
    packet = await lane.open([5])
    await lane.store.limit(LANE, 0, 1, {"ada": FAR_FUTURE_MS})
    await lane.store.limit(LANE, 1, 2, {"ada": 0})
    assert await lane.claim({packet: ["ada"]}) == "C"


async def test_changes_are_applied_once_and_none_is_left_out(lane: Lane) -> None:
    assert await lane.store.limit(LANE, 0, 3, {"ada": FAR_FUTURE_MS}) == 3
    before = await lane.everything()
    for after, version in ((0, 3), (0, 9), (5, 9)):
        assert await lane.store.limit(LANE, after, version, {"ada": 0, "bob": FAR_FUTURE_MS}) == 3
    assert await lane.everything() == before
    assert await lane.store.limited_version(LANE) == 3


async def test_what_is_all_over_is_removed_and_nothing_else(lane: Lane) -> None:
    await lane.store.limit(LANE, 0, 1, {"ada": LONG_AGO_MS, "bob": LONG_AGO_MS + 1})
    await lane.store.limit(LANE, 1, 2, {"eve": FAR_FUTURE_MS})
    assert await limited(lane) == {"eve": FAR_FUTURE_MS}
    await lane.store.limit(LANE, 2, 3, {"ada": LONG_AGO_MS})
    assert await limited(lane) == {"eve": FAR_FUTURE_MS, "ada": LONG_AGO_MS}


async def test_a_smaller_version_makes_the_lane_forget(lane: Lane) -> None:
    packet = await lane.open([5])
    await lane.store.limit(LANE, 0, 7, {"ada": FAR_FUTURE_MS})
    assert await lane.store.limit(LANE, 7, 0, {}) == 0
    assert await limited(lane) == {}
    assert await lane.claim({packet: ["ada"]}) == "C"


async def test_as_many_users_as_a_call_takes(lane: Lane) -> None:
    users = {f"user{number}": FAR_FUTURE_MS for number in range(LIMITED_PER_CALL_MAX)}
    await lane.store.limit(LANE, 0, 1, users)
    assert await limited(lane) == users


@pytest.mark.parametrize(
    "arguments",
    [
        (EPOCH, 0, 1, "ada"),
        (EPOCH, 0, 1, "ada", "soon"),
        (EPOCH, 0, 1, "ada", FAR_FUTURE_MS, "bob", ""),
        (EPOCH, 0, "one"),
        (EPOCH, 0),
        (EPOCH, 0, 1, *(word for number in range(LIMITED_PER_CALL_MAX + 1) for word in (f"user{number}", 1))),
    ],
    ids=["no time", "no number", "nothing", "no version", "too few", "too many"],
)
async def test_another_form_is_refused_and_changes_nothing(lane: Lane, arguments: tuple[str | int, ...]) -> None:
    await lane.store.limit(LANE, 0, 0, {"eve": LONG_AGO_MS})
    before = await lane.everything()
    assert await lane.call("limit", [keys.lane(LANE), keys.limited(LANE)], arguments) == [Followed.MALFORMED.encode()]
    assert await lane.everything() == before


async def test_a_fenced_lane_refuses_it(lane: Lane) -> None:
    before = await lane.everything()
    names = [keys.lane(LANE), keys.limited(LANE)]
    assert await lane.call("limit", names, ("another", 0, 1, "ada", 1)) == [Followed.FENCED.encode()]
    assert await lane.everything() == before
