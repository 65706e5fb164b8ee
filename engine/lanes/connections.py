"""A few kept connections for frequent calls. Each connection knows which server it talks to.

redis-py's client needs about 100 us of Python per call: it lends a connection, packs a long command word by word and
guards each step with a timer. A kept connection that packs in C and has one timer needs a fraction of that.

Redis has a new run id after each start. A connection asks for it once, when it is made, so that a call can
name the server it is meant for. A restarted or replaced server is never taken for the one before.
"""

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from hiredis import pack_command
from redis.asyncio import Connection, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from engine.lanes.failures import UnansweredError, code_of
from engine.lanes.locating import MovedAwayError
from engine.observability.server_failures import SILENT

_Words = Sequence[str | bytes | int]
_INFO = b"*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n"


def lane_token_of(epoch: str, run_id: str) -> str:
    """The token under which a lane serves: its epoch, and the run id of the Redis process whose data was verified."""
    return f"{epoch}@{run_id}"


class ReplacedServerError(RedisConnectionError):
    """The server is not the one whose data the ledger vouches for. The command was not sent."""


_HOPS_MAX, _HOP_S = 6, 0.002
"""How often a call follows a slot that was moved, and the wait before the second hop, which doubles each time: while
a slot changes hands, two servers may send a client to each other for a moment.
"""
_RECONNECT_S = 0.2
"""How long a connection to a wrong server is kept at least, so that a storm of calls makes no storm of connections."""
WAITS_MAX = 16
"""How many connections, besides those for calls, may wait for a disk or a replica."""


class _Kept:
    """A connection and, while it is connected, its server's run id."""

    __slots__ = ("connected_at_s", "connection", "is_sent", "run_id")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.run_id = ""
        self.connected_at_s = 0.0
        self.is_sent = False
        """Whether the present command may have reached the server."""


class Connections:
    """At most ``connections_max`` calls at a time, each on its own connection. Other calls wait.

    ``timeout_s`` bounds a call with its wait, its connecting and its one repeat. If the connection is lost, a new one
    is made and the call is sent once more: the command must answer a repeat as a repeat.
    ``place``: where the server is, for errors.
    """

    def __init__(self, pool: ConnectionPool, *, connections_max: int, timeout_s: float, place: str = "") -> None:
        self._new_connection: Callable[[], Connection] = pool.make_connection
        self._timeout_s, self._place = timeout_s, place
        self._idle: list[_Kept] = []
        self._turns = asyncio.Semaphore(connections_max)
        self._waits = asyncio.Semaphore(WAITS_MAX)

    async def call(self, *words: str | bytes | int, epoch_at: int | None = None, server: str = "") -> Any:  # noqa: ANN401 -- any reply
        """Send one command and return its raw reply.

        ``epoch_at``: the index of the word that is an epoch. It is sent as the lane token for the receiving server.
        ``server``: the run id that the server must have, if any. A connection to another is closed, and made once more.
        Raises ReplacedServerError if that leads to another too, UnansweredError if it was sent and no answer came,
        otherwise redis.exceptions.RedisError.
        """
        kept: _Kept | None = None
        try:
            async with asyncio.timeout(self._timeout_s), self._turns:
                kept = self._idle.pop() if self._idle else _Kept(self._new_connection())
                try:
                    return await _answer(kept, words, epoch_at, server)
                finally:
                    self._idle.append(kept)
        except TimeoutError:
            raise _silence(kept, self._timeout_s, self._place) from None

    def lend(self) -> "Lent":
        """A connection for calls that must all go to the same server."""
        return Lent(self)

    async def aclose(self) -> None:
        """Close every connection. No call may be under way."""
        while self._idle:
            await self._idle.pop().connection.disconnect()


class Lent:
    """One connection for several calls, so that all of them go to the same server. ``give_back`` ends it."""

    __slots__ = ("_connections", "_has_turn", "_kept")

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._kept: _Kept | None = None
        self._has_turn = False

    async def call(self, *words: str | bytes | int, epoch_at: int | None = None, server: str = "") -> Any:  # noqa: ANN401 -- any reply
        """As ``Connections.call``. The first call takes a connection and a turn."""
        connections = self._connections
        try:
            async with asyncio.timeout(connections._timeout_s):
                if self._kept is None:
                    await connections._turns.acquire()
                    self._has_turn = True
                    self._kept = connections._idle.pop() if connections._idle else _Kept(connections._new_connection())
                return await _answer(self._kept, words, epoch_at, server)
        except TimeoutError:
            raise _silence(self._kept, connections._timeout_s, connections._place) from None

    async def wait(self, *words: str | int, timeout_s: float, is_patient: bool) -> Any:  # noqa: ANN401 -- any reply
        """Send one more command to the server that answered the last call. Other calls may take the turn meanwhile.

        It is sent once, to this server only. Raises redis.exceptions.RedisError if the connection was lost. While
        WAITS_MAX wait, it keeps its turn until one of them is done, or raises if not ``is_patient``.
        """
        kept, waits = self._kept, self._connections._waits
        if waits.locked() and not is_patient:
            raise RedisConnectionError("too many wait")
        try:
            async with asyncio.timeout(timeout_s), waits:
                self._give_turn_back()
                if kept is None or not kept.connection.is_connected:
                    raise RedisConnectionError("the connection was lost")
                try:
                    return await _ask(kept, words, None)
                except (RedisConnectionError, asyncio.CancelledError):
                    await kept.connection.disconnect(nowait=True)
                    raise
        except TimeoutError:
            raise RedisTimeoutError(f"no answer within {timeout_s:g} s") from None

    @property
    def run_id(self) -> str:
        """The run id of the server that answered the last call."""
        return "" if self._kept is None else self._kept.run_id

    def give_back(self) -> None:
        """Let other calls use the connection."""
        self._give_turn_back()
        if self._kept is not None:
            self._connections._idle.append(self._kept)
            self._kept = None

    def _give_turn_back(self) -> None:
        if self._has_turn:
            self._has_turn = False
            self._connections._turns.release()


def _silence(kept: _Kept | None, timeout_s: float, place: str) -> RedisError:
    """The error for a call whose time is over."""
    why = f"no answer{place and f' from {place}'} within {timeout_s:g} s"
    return UnansweredError(why) if kept is not None and kept.is_sent else RedisTimeoutError(why)


async def _answer(kept: _Kept, words: _Words, epoch_at: int | None, server: str) -> Any:  # noqa: ANN401 -- any reply
    kept.is_sent = False
    try:
        try:
            return await _ask_holder(kept, words, epoch_at, server)
        except MovedAwayError:
            raise
        except (RedisConnectionError, ReadOnlyError) as error:  # a replica now: its address may lead to the primary
            if isinstance(error, ReplacedServerError) and monotonic() - kept.connected_at_s < _RECONNECT_S:
                raise
            await kept.connection.disconnect(nowait=True)
            kept.is_sent = kept.is_sent and code_of(error) == SILENT
            return await _ask_holder(kept, words, epoch_at, server)
    except ReplacedServerError:
        raise  # the connection is sound, and is tried again if the ledger vouches for its server
    except asyncio.CancelledError:
        # A reply may still arrive, and the connection's next user would get it.
        await kept.connection.disconnect(nowait=True)
        raise
    except (RedisConnectionError, RedisTimeoutError) as error:
        await kept.connection.disconnect(nowait=True)
        if kept.is_sent and (code_of(error) == SILENT or isinstance(error, MovedAwayError)):
            raise UnansweredError(str(error)) from error
        raise


async def _ask_holder(kept: _Kept, words: _Words, epoch_at: int | None, server: str) -> Any:  # noqa: ANN401 -- any reply
    """Ask, and follow the lane's slot to the server that holds it. A server that redirects has done nothing."""
    was_sent = kept.is_sent  # an earlier try, of which no answer came, may have done something
    for hop in range(_HOPS_MAX + 1):
        try:
            return await _ask(kept, words, epoch_at, server)
        except MovedAwayError:
            await kept.connection.disconnect(nowait=True)
            kept.is_sent = was_sent
            if hop == _HOPS_MAX:
                raise
            if hop:
                await asyncio.sleep(_HOP_S * 2**hop)
    raise AssertionError("the last hop returns or raises")


async def _ask(kept: _Kept, words: _Words, epoch_at: int | None, server: str = "") -> Any:  # noqa: ANN401 -- any reply
    connection = kept.connection
    if not connection.is_connected:
        await _connect(kept)
    if server and kept.run_id != server:
        raise ReplacedServerError("The server is not the one whose data the ledger vouches for.")
    if epoch_at is not None:  # only after connecting: the token names this server
        lane_token = lane_token_of(str(words[epoch_at]), kept.run_id)
        words = (*words[:epoch_at], lane_token, *words[epoch_at + 1 :])
    packed = pack_command(tuple(words))  # type: ignore[arg-type]  # its stub says a tuple of one
    kept.is_sent = True
    await connection.send_packed_command(packed, check_health=False)
    return await connection.read_response()


async def _connect(kept: _Kept) -> None:
    await kept.connection.connect()  # type: ignore[no-untyped-call]
    try:
        await kept.connection.send_packed_command(_INFO, check_health=False)
        kept.run_id = run_id_in(await kept.connection.read_response())
        kept.connected_at_s = monotonic()
    except BaseException:
        # Without a run id, this connection would keep the previous server's.
        await kept.connection.disconnect(nowait=True)
        raise


def run_id_in(info: bytes) -> str:
    """The run id in INFO's reply. Raises redis.exceptions.ConnectionError if there is none."""
    _, found, rest = info.partition(b"\r\nrun_id:")
    run_id = rest.partition(b"\r\n")[0].decode()
    if not found or not run_id:
        raise RedisConnectionError("The server does not report its run id.")
    return run_id
