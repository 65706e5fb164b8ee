"""Accounts, for admins: freezes, profiles, groups' limits, alerts."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.answers import Answer, as_json
from api.auth import Access
from api.dispatch import Call, Operation
from api.payloads import PLAIN_TEXT, NewestFirstQuery, Payload
from engine import errors
from engine.records import FEN_MAX, FreezeScope
from engine.risk.alerts import AlertsPage
from engine.risk.limits import AccountKind
from engine.risk.profiles import ADDRESSES_MAX, Account, LabelLimit, Profile

REASON_LENGTH_MAX = 200

Reason = Annotated[
    str,
    Field(
        min_length=1, max_length=REASON_LENGTH_MAX, description="Kept with the freeze; characters that people can read"
    ),
    PLAIN_TEXT,
]
Scope = Annotated[
    Literal["account", "sending", "receiving"],
    Field(description="account: no sending, claiming, transferring or withdrawing; or only one direction"),
]
Limit = Annotated[
    int | None,
    Field(ge=0, le=FEN_MAX, description="In fen; 0: no limit; null: the server's setting"),
]


Networks = Annotated[
    list[Annotated[str, Field(max_length=64)]],
    Field(max_length=ADDRESSES_MAX, description="Networks that a merchant may send from (192.0.2.0/24); empty: any"),
]


class FreezeBody(Payload):
    """Why an account is frozen, and what it may not do."""

    reason: Reason
    scope: Scope = "account"


class LiftQuery(BaseModel):
    """Why freezes are lifted, and the scope: all freezes of it are lifted."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    reason: Reason
    scope: Scope = "account"


class ProfileBody(Payload):
    """An account's profile. It replaces the whole profile."""

    kind: Annotated[Literal["person", "merchant"], Field(description="Whose account it is")]
    addresses: Networks = Field(default_factory=list)
    transaction_fen_max: Limit = None
    day_sent_fen_max: Limit = None
    day_received_fen_max: Limit = None


class LabelBody(Payload):
    """How much can be sent to a group per day (China's)."""

    day_sent_fen_max: Limit


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezeAnswer:
    """``frozen``: what is frozen now. ``in_force``: whether every lane in Redis has it, so that no claim wins."""

    user_id: str
    frozen: list[FreezeScope]
    in_force: bool


async def freeze_account(call: Call) -> Answer:
    """Freeze an account. A repeat with the same reason changes nothing."""
    body, user_id = call.body, call.path["user_id"]
    in_force = await call.engine.freezes.freeze(
        user_id, reason=body.reason, frozen_by=call.caller.principal, scope=FreezeScope(body.scope)
    )
    return await _frozen(call, user_id, in_force=in_force)


async def lift_freeze(call: Call) -> Answer:
    """Lift every freeze of a scope. If there is none, nothing changes."""
    query, user_id = call.query, call.path["user_id"]
    in_force = await call.engine.freezes.lift(
        user_id, reason=query.reason, lifted_by=call.caller.principal, scope=FreezeScope(query.scope)
    )
    return await _frozen(call, user_id, in_force=in_force)


async def _frozen(call: Call, user_id: str, *, in_force: bool) -> Answer:
    frozen = await call.engine.freezes.in_force(user_id)
    return as_json({"user_id": user_id, "frozen": frozen, "in_force": in_force})


async def get_account(call: Call) -> Answer:
    """Return kind, limits, present and past freezes, and debts."""
    return as_json(await call.engine.profiles.account(call.path["user_id"]))


async def put_profile(call: Call) -> Answer:
    """Set an account's profile."""
    body = call.body
    own = {
        "transaction_fen_max": body.transaction_fen_max,
        "day_sent_fen_max": body.day_sent_fen_max,
        "day_received_fen_max": body.day_received_fen_max,
    }
    profile = await call.engine.profiles.put(
        call.path["user_id"], AccountKind(body.kind), body.addresses, own, changed_by=call.caller.principal
    )
    return as_json(profile)


async def put_label(call: Call) -> Answer:
    """Set how much may be sent to a group per day."""
    label, most = call.path["label"], call.body.day_sent_fen_max
    return as_json(await call.engine.profiles.put_label(label, most, changed_by=call.caller.principal))


async def list_alerts(call: Call) -> Answer:
    """Return the alerts, newest first."""
    return as_json(await call.engine.alerts.page(after=call.query.after, limit=call.query.limit))


_ADMIN = Access(("admin",))

ROUTES = (
    Operation(
        method="GET",
        path="/v1/accounts/{user_id}",
        endpoint=get_account,
        summary="An account: its kind and limits, its freezes with who made them, when and why, and its debts.",
        access=_ADMIN,
        answer=Account,
        problems=(errors.UnavailableError,),
    ),
    Operation(
        method="PUT",
        path="/v1/accounts/{user_id}/freeze",
        endpoint=freeze_account,
        summary="Freeze an account: it cannot send, claim, transfer or withdraw. Its money stays where it is.",
        access=_ADMIN,
        body=FreezeBody,
        answer=FreezeAnswer,
        problems=(errors.UnavailableError,),
    ),
    Operation(
        method="DELETE",
        path="/v1/accounts/{user_id}/freeze",
        endpoint=lift_freeze,
        summary="Lift every freeze of a scope.",
        access=_ADMIN,
        query=LiftQuery,
        answer=FreezeAnswer,
        problems=(errors.UnavailableError,),
    ),
    Operation(
        method="PUT",
        path="/v1/accounts/{user_id}/profile",
        endpoint=put_profile,
        summary="Set an account's profile: person or merchant, the networks it may send from, its limits.",
        access=_ADMIN,
        body=ProfileBody,
        answer=Profile,
        problems=(errors.UnavailableError,),
    ),
    Operation(
        method="PUT",
        path="/v1/labels/{label}",
        endpoint=put_label,
        summary="Limit what is sent to a group per day.",
        access=_ADMIN,
        body=LabelBody,
        answer=LabelLimit,
        problems=(errors.UnavailableError,),
    ),
    Operation(
        method="GET",
        path="/v1/alerts",
        endpoint=list_alerts,
        summary="Alerts for the people who watch over the money, newest first.",
        access=_ADMIN,
        query=NewestFirstQuery,
        answer=AlertsPage,
        problems=(errors.UnavailableError,),
    ),
)
