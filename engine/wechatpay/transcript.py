"""The last calls of each merchant, for a developer who asks why: what was sent, what was signed, what was answered.

No keys are in it: neither the API key of the string that was signed, nor one that a client put into a field by mistake.
Calls are written together a moment later, so that no call waits for it. If a process dies, its last few are missing.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

import asyncpg

from engine.ledger.database import ledger_errors
from engine.loops import PASSING, end, outlived
from engine.queries import load
from engine.settings import Settings
from engine.wechatpay.refusals import UNPROVEN

SQL = load("wechatpay")
TEXT_MAX = 4_000
"""How much of each text is kept."""
WAITING_MAX = 1_000
"""How many calls may wait to be written. More are not recorded."""
LINGER_S = 0.2
UNPROVEN_A_MINUTE_MAX = 50
"""How many calls per merchant are recorded that were not proven to be its own. Anybody can make them."""
_HIDDEN = "（已隐藏）"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCall:
    """One call. ``signed``: the string that was signed, its key left out; None unless the signature was wrong."""

    mch_id: str
    at_ms: int
    path: str
    code: str
    request: str
    signed: str | None
    answer: str
    took_ms: int


class Transcript:
    """One process's recorder of calls."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        self._pool, self._rows_max = pool, settings.wechatpay_log_rows_max
        self._waiting: deque[RecordedCall] = deque()
        self._work: asyncio.Task[None] | None = None
        self._minute, self._unproven = 0, Counter[str]()

    def note(self, call: RecordedCall) -> None:
        """Record a call, unless too many wait. Never raises and never waits."""
        if not self._rows_max or len(self._waiting) >= WAITING_MAX:
            return
        if call.code in UNPROVEN and not self._has_room(call):
            return
        self._waiting.append(call)
        if self._work is None:
            self._work = asyncio.create_task(self._write())

    def _has_room(self, call: RecordedCall) -> bool:
        minute = call.at_ms // 60_000
        if minute != self._minute:
            self._minute = minute
            self._unproven.clear()
        self._unproven[call.mch_id] += 1
        return self._unproven[call.mch_id] <= UNPROVEN_A_MINUTE_MAX

    async def _write(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(LINGER_S)
                await self.flush()
        finally:
            self._work = None

    async def flush(self) -> None:
        """Write what is waiting. If Postgres does not answer, it is dropped."""
        calls = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not calls:
            return
        columns = zip(
            *(
                (call.mch_id, call.at_ms, call.path, call.code, call.request, call.signed, call.answer, call.took_ms)
                for call in calls
            ),
            strict=True,
        )
        try:
            await self._pool.execute(SQL["add_calls"], *map(list, columns))
        except PASSING as error:
            outlived("wechatpay_log", error)

    async def close(self) -> None:
        """Write the rest."""
        if self._work is not None:
            await end(self._work)
        await self.flush()

    async def forget(self) -> None:
        """Keep the newest calls of each merchant only. Raises UnavailableError."""
        with ledger_errors(is_undone=True):
            if self._rows_max:
                await self._pool.execute(SQL["forget_calls"], self._rows_max)


async def newest(pool: asyncpg.Pool, *, mch_id: str | None, code: str | None, limit: int) -> list[RecordedCall]:
    """The newest calls, the newest first. Raises UnavailableError."""
    with ledger_errors(is_undone=True):
        rows = await pool.fetch(SQL["calls"], mch_id, code, limit)
    return [RecordedCall(**{name: value for name, value in row.items() if name != "call_id"}) for row in rows]


def shown(text: str, secrets: Iterable[str]) -> str:
    """A text as it may be kept: cut, without secrets and without what Postgres cannot keep."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, _HIDDEN)
    return text.replace("\x00", "")[:TEXT_MAX]
