"""Moves one slot of a cluster from one master to another, with the commands that its servers have.

Valkey 9 moves a slot at once: it copies the keys, and hands them over in one moment. Other servers move key by key.
Then the slot is in two places meanwhile, and scripts are refused until the last key has been moved.
"""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from engine.errors import OperatorError
from engine.lanes.clients import command, redis_client
from engine.lanes.cluster import Cluster
from engine.lanes.locating import Address, At
from engine.redis_servers import RedisServer

_POLL_S = 0.05
_KEYS_PER_CALL = 100
_KEYS_TIMEOUT_MS = 5_000
_AWAY = frozenset({"fail", "fail?", "noaddr", "handshake"})
_SUCCESS = b"success"
_HAS_ENDED = (_SUCCESS, b"failed", b"cancelled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Master:
    """One master of a cluster. ``client`` speaks to it whatever it holds."""

    address: Address
    client: Redis
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        """Its host and port."""
        return f"{self.address[0]}:{self.address[1]}"

    async def name(self) -> str:
        """The name that its cluster has given it."""
        name: bytes = await command(self.client, "CLUSTER", "MYID")
        return name.decode()


async def masters_of(server: RedisServer, cluster: Cluster, *, timeout_s: float) -> list[Master]:
    """All masters that the cluster believes to be alive, also those that hold no slot yet. Close their clients.

    Raises redis.exceptions.RedisError.
    """
    parts = urlsplit(server.client_url)
    user, password = (None if word is None else unquote(word) for word in (parts.username or None, parts.password))

    def master(address: Address) -> Master:
        client = redis_client(server.client_url, connections_max=2, timeout_s=timeout_s, locator=At(address))
        return Master(address=address, client=client, user=user, password=password)

    holders = await cluster.masters()
    asked, told = await _nodes([master(address) for address in holders])
    found = []
    for line in told.splitlines():
        _, place, flags, *_ = line.split(" ")
        host, _, port = place.partition("@")[0].rpartition(":")
        # Servers that are to be called by their names are called so in the map of slots.
        named = (place.split(",")[1:] or [""])[0]
        if named in {known for known, _ in holders}:
            host = named
        if "master" in flags.split(",") and not _AWAY & {*flags.split(",")}:
            found.append(master((host.strip("[]") or asked[0], int(port))))
    return sorted(found, key=lambda one: one.address)


async def _nodes(masters: Sequence[Master]) -> tuple[Address, str]:
    """What the first that answers knows of all servers, and where it is. Raises redis.exceptions.RedisError."""
    try:
        for number, master in enumerate(masters, start=1):
            try:
                told: bytes = await command(master.client, "CLUSTER", "NODES")
            except (RedisConnectionError, RedisTimeoutError):
                if number == len(masters):
                    raise
            else:
                return master.address, told.decode()
    finally:
        for master in masters:
            await master.client.aclose()
    raise RedisConnectionError("the cluster has no master")


async def move_slot(
    slot: int, source: Master, target: Master, *, last: str, between: Callable[[], Awaitable[None]]
) -> None:
    """Move it. ``last``: the key that is moved last, if keys are moved one by one. ``between``: called at every step.

    If this ends early, a slot that moves at once stays where it is. One that moves key by key stays in two places: call
    this again. Raises OperatorError if the servers refuse, and redis.exceptions.RedisError.
    """
    if await _move_at_once(slot, source, target, between):
        return
    await _move_by_key(slot, source, target, last, between)


async def _move_at_once(slot: int, source: Master, target: Master, between: Callable[[], Awaitable[None]]) -> bool:
    """Returns False if the server does not know how to."""
    try:
        earlier = {job[b"name"] for job in await _jobs(source)}
    except ResponseError as error:
        if "unknown subcommand" in str(error).lower():
            return False
        raise OperatorError(f"{source.place} does not move slot {slot}: {error}.") from None
    there, is_refused = await target.name(), False
    try:
        try:
            await command(source.client, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", there)
        except ResponseError as error:
            is_refused = True
            raise OperatorError(f"{source.place} does not move slot {slot}: {error}.") from None
        while (job := await _job(slot, source, earlier))[b"state"] not in _HAS_ENDED:
            await between()
            await asyncio.sleep(_POLL_S)
    except BaseException:  # also a cancellation: the caller does not fence the lane any longer
        if not is_refused:
            with contextlib.suppress(RedisError, OSError):
                await command(source.client, "CLUSTER", "CANCELSLOTMIGRATIONS")
        raise
    if job[b"state"] != _SUCCESS:
        why = job[b"message"].decode(errors="replace") or job[b"state"].decode()
        raise OperatorError(f"{source.place} could not move slot {slot}: {why}. It is where it was.")
    return True


async def _job(slot: int, source: Master, earlier: set[bytes]) -> dict[bytes, Any]:
    """The one that moves the slot now: others may be moved by others. Raises OperatorError if there is none."""
    for job in await _jobs(source):
        if job[b"slot_ranges"] == f"{slot}-{slot}".encode() and job[b"name"] not in earlier:
            return job
    raise OperatorError(f"{source.place} no longer knows that it moves slot {slot}: was it restarted? Run this again.")


async def _jobs(source: Master) -> list[dict[bytes, Any]]:
    found = await command(source.client, "CLUSTER", "GETSLOTMIGRATIONS")
    return [dict(zip(job[::2], job[1::2], strict=True)) for job in found]


async def _move_by_key(
    slot: int, source: Master, target: Master, last: str, between: Callable[[], Awaitable[None]]
) -> None:
    """As the cluster's specification says. Each step may be repeated."""
    there = await target.name()
    if (begun := await _begun(slot, source)) not in (None, there):
        raise OperatorError(
            f"Slot {slot} is half moved to another master: finish that first, --to {begun} (its name in the cluster)."
        )
    try:
        await command(target.client, "CLUSTER", "SETSLOT", slot, "IMPORTING", await source.name())
        await command(source.client, "CLUSTER", "SETSLOT", slot, "MIGRATING", there)
        while names := await _names(slot, source, last):
            await between()
            await _move_keys(names, source, target)
        await _move_keys([last.encode()], source, target)
        for server in (target, source):
            await command(server.client, "CLUSTER", "SETSLOT", slot, "NODE", there)
    except ResponseError as error:
        raise OperatorError(f"Slot {slot} is not moved to {target.place}: {error}. Run this again.") from None


async def _begun(slot: int, source: Master) -> str | None:
    """The name of the master to which the slot's keys were being moved, if that was broken off."""
    told: bytes = await command(source.client, "CLUSTER", "NODES")
    (own,) = [line for line in told.decode().splitlines() if "myself" in line.split(" ")[2].split(",")]
    found = re.search(rf"\[{slot}->-(\w+)\]", own)
    return None if found is None else found[1]


async def _names(slot: int, source: Master, last: str) -> list[bytes]:
    found: list[bytes] = await command(source.client, "CLUSTER", "GETKEYSINSLOT", slot, _KEYS_PER_CALL + 1)
    return [name for name in found if name != last.encode()]


async def _move_keys(names: list[bytes], source: Master, target: Master) -> None:
    host, port = target.address
    words: list[str | bytes | int] = ["MIGRATE", host, port, "", 0, _KEYS_TIMEOUT_MS, "REPLACE"]
    if target.password is not None:
        words += ["AUTH", target.password] if target.user is None else ["AUTH2", target.user, target.password]
    await command(source.client, *words, "KEYS", *names)
