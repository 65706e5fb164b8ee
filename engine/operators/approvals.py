"""Four eyes: an action that one operator asks for and another one approves. Then it is done once.

What is asked is kept exactly as it will be done, with its hash. The second operator's form carries the hash of what
they saw. So nothing else can be done than what both meant.
"""

from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson

from engine.ledger import idempotency
from engine.ledger.database import Connection, ledger_change, ledger_errors
from engine.ledger.money import now_ms
from engine.operators.accounts import Operator
from engine.operators.actions import Action, Arguments, Doing, Registry, Tools, as_text, hash_of
from engine.operators.refusals import (
    AlreadyDoneError,
    ApprovalChangedError,
    ApprovalEndedError,
    AskerMayNotError,
    NotPermittedError,
    SameOperatorError,
    UnknownApprovalError,
)
from engine.operators.roles import permissions_of
from engine.paging import NEWEST, parse
from engine.queries import load

SQL = load("approvals")
EXPIRES_MS = 86_400_000
"""How long an approval waits."""
DECIDE = "approvals:decide"
"""The right to decide, beside the right of the action itself."""
PAGE_MAX = 100
COUNTED_MAX = 1_000
WAITING, EXECUTED, REFUSED, WITHDRAWN, EXPIRED = "waiting", "executed", "refused", "withdrawn", "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One approval. ``state``: waiting, executed, refused, withdrawn or expired. ``hash``: of the arguments, in hex."""

    approval_id: int
    action: str
    subject_kind: str
    subject_id: str
    arguments: dict[str, Any]
    hash: str
    reason: str
    asked_by: str
    asked_at_ms: int
    expires_at_ms: int
    state: str
    decided_by: str | None
    decided_at_ms: int | None
    decided_reason: str | None
    result: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Performed:
    """What came of an operator's action: ``result``, or an approval that waits for another operator.

    ``is_alone``: it would have needed another operator, and the installation does without. ``replayed``: it was done
    before with the same key.
    """

    result: dict[str, Any] | None = None
    approval_id: int | None = None
    is_alone: bool = False
    replayed: bool = False


class Approvals:
    """Performs actions, and keeps those that wait. ``needs_two`` False: one operator does everything alone.

    ``acting``: an action holds one of its connections until it is done. So it must not be a pool that the actions'
    own use cases need: some actions at once would hold all of it, and none could end.

    Every method raises UnavailableError (UndecidedError if an action may have been done).
    """

    def __init__(self, pool: asyncpg.Pool, acting: asyncpg.Pool, *, needs_two: bool = True) -> None:
        self._pool, self._acting, self._needs_two = pool, acting, needs_two

    async def perform(
        self,
        action: Action[Tools],
        tools: Tools,
        *,
        arguments: Arguments,
        subject: tuple[str, str],
        reason: str,
        by: Operator,
        key: str,
    ) -> Performed:
        """Do an action, or have it wait for another operator, once per operator and ``key``.

        Raises NotPermittedError, and as the action does.
        """
        _check_may(by, action)
        kept = as_text(arguments)
        request = idempotency.Request(
            principal=by.name, operation=f"console {action.name}", key=key, request_hash=hash_of(kept + reason)
        )

        async def check() -> bool:
            return await action.needs_two(tools, arguments)

        async def work(connection: Connection, is_for_two: bool) -> dict[str, Any]:
            if is_for_two and self._needs_two:
                approval_id = await connection.fetchval(
                    SQL["ask"], action.name, *subject, kept, hash_of(kept), reason, by.name, EXPIRES_MS
                )
                return {"approval_id": str(approval_id)}
            doing = Doing(
                tools=tools,
                connection=connection,
                arguments=arguments,
                reason=reason,
                key=f"console {by.name} {key}",
                by=by.name,
                asked_by=by.name,
            )
            result = await action.execute(doing)
            await connection.execute(SQL["wait_for_disk"])
            return {"result": result, "is_alone": is_for_two}

        answered = await idempotency.once(self._acting, request, check=check, work=work)
        answer = answered.answer
        if "approval_id" in answer:
            return Performed(approval_id=int(answer["approval_id"]), replayed=answered.replayed)
        return Performed(result=answer["result"], is_alone=answer["is_alone"], replayed=answered.replayed)

    async def approve(
        self, approval_id: int, actions: Registry[Tools], tools: Tools, *, by: Operator, seen_hash: str, reason: str
    ) -> dict[str, Any]:
        """Do what was asked, as another operator than the one who asked. Returns what came of it.

        Both must have the right now: a role may have been taken away since it was asked for.

        Raises UnknownApprovalError, ApprovalEndedError, SameOperatorError, NotPermittedError, AskerMayNotError,
        ApprovalChangedError, and as the action does: then it still waits.
        """
        async with ledger_change(self._acting) as connection:
            row = await self._lock(connection, approval_id)
            if row["asked_by"] == by.name:
                raise SameOperatorError("You asked for this: another operator must approve it.")
            action = actions.get(row["action"])
            if action is None:
                raise ApprovalEndedError("This release does not know the action: have it refused.")
            _check_may(by, action)
            await _check_may_now(connection, row["asked_by"], by, action)
            kept_hash = hash_of(row["arguments"])
            if kept_hash != row["arguments_hash"] or kept_hash.hex() != seen_hash:
                raise ApprovalChangedError("What would be done is not what you saw: open the approval again.")
            doing = _doing(tools, connection, row, approval_id, by)
            result = await action.execute(doing)
            await connection.execute(
                SQL["decide"], approval_id, EXECUTED, by.name, reason, orjson.dumps(result).decode()
            )
            await connection.execute(SQL["wait_for_disk"])
        return result

    async def refuse(
        self, approval_id: int, actions: Registry[Tools], tools: Tools, *, by: Operator, reason: str
    ) -> None:
        """Refuse what was asked or, as the one who asked, withdraw it.

        Raises as ``approve`` does, and AlreadyDoneError if it was done by a console that died before it could say so.
        """
        async with ledger_change(self._acting) as connection:
            row = await self._lock(connection, approval_id)
            action = actions.get(row["action"])
            is_own = row["asked_by"] == by.name
            if not is_own and action is not None:
                _check_may(by, action)
            doing = _doing(tools, connection, row, approval_id, by)
            if action is not None and await action.was_done(doing):
                raise AlreadyDoneError(
                    "This was done before a console stopped. Approve it: then it is noted, and not done twice."
                )
            await connection.execute(
                SQL["decide"], approval_id, WITHDRAWN if is_own else REFUSED, by.name, reason, None
            )

    async def get(self, approval_id: int) -> Approval:
        """One approval. Raises UnknownApprovalError."""
        with ledger_errors():
            row = await self._pool.fetchrow(SQL["one"], approval_id)
        if row is None:
            raise UnknownApprovalError(f"There is no approval {approval_id}.")
        return _approval(row)

    async def page(
        self, *, only_waiting: bool, after: str | None = None, limit: int = 50
    ) -> tuple[list[Approval], str | None]:
        """Approvals, newest first, and the cursor of the page after it. Raises InvalidFieldsError for a bad cursor."""
        (below,) = parse(after, parts=1, start=(NEWEST,))
        limit = min(limit, PAGE_MAX)
        with ledger_errors():
            rows = await self._pool.fetch(SQL["page"], below, limit + 1, only_waiting)
        found = [_approval(row) for row in rows[:limit]]
        return found, str(found[-1].approval_id) if len(rows) > limit else None

    async def waiting_count(self) -> int:
        """How many wait."""
        with ledger_errors():
            return int(await self._pool.fetchval(SQL["count_waiting"]))

    async def to_decide_count(self, actions: Registry[Tools], *, by: Operator) -> int:
        """How many wait that this operator may decide now, up to ``COUNTED_MAX``. Their own are not among them."""
        decidable = decidable_actions(actions, by)
        if not decidable:
            return 0
        with ledger_errors():
            return int(await self._pool.fetchval(SQL["count_to_decide"], decidable, by.name, COUNTED_MAX))

    async def _lock(self, connection: Connection, approval_id: int) -> asyncpg.Record:
        row = await connection.fetchrow(SQL["lock"], approval_id)
        if row is None:
            raise UnknownApprovalError(f"There is no approval {approval_id}.")
        if row["state"] != WAITING or row["expires_at_ms"] <= await now_ms(connection):
            raise ApprovalEndedError("This approval was decided, was withdrawn, or is too old.")
        return row


def _doing(tools: Tools, connection: Connection, row: asyncpg.Record, approval_id: int, by: Operator) -> Doing[Tools]:
    return Doing(
        tools=tools,
        connection=connection,
        arguments=orjson.loads(row["arguments"]),
        reason=row["reason"],
        key=f"approval {approval_id}",
        by=by.name,
        asked_by=row["asked_by"],
        approval_id=approval_id,
    )


def decidable_actions(actions: Registry[Tools], by: Operator) -> list[str]:
    """The actions whose approvals an operator may decide, if another one has asked for them."""
    if DECIDE not in by.permissions:
        return []
    return [action.name for action in actions if action.permission in by.permissions]


def _check_may(by: Operator, action: Action[Any]) -> None:
    if action.permission not in by.permissions:
        raise NotPermittedError(f"The role {by.role} does not have the right {action.permission}.")


async def _check_may_now(connection: Connection, asked_by: str, by: Operator, action: Action[Any]) -> None:
    """The same for both, by the roles that they have at this moment."""
    roles = {row["name"]: row["role"] for row in await connection.fetch(SQL["roles_now"], [asked_by, by.name])}
    if action.permission not in permissions_of(roles.get(by.name, "")):
        raise NotPermittedError(f"The operator {by.name} no longer has the right {action.permission}.")
    if action.permission not in permissions_of(roles.get(asked_by, "")):
        raise AskerMayNotError(f"The operator {asked_by}, who asked for this, no longer has the right to.")


def _approval(row: asyncpg.Record) -> Approval:
    values = dict(row)
    result, arguments = values.pop("result"), orjson.loads(values.pop("arguments"))
    return Approval(
        **values,
        arguments=arguments,
        result=None if result is None else orjson.loads(result),
    )
