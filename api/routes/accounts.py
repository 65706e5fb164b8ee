"""Accounts, limits of groups, alerts: for the people who watch over the money."""

from api import accounts
from api.auth import Access
from api.dispatch import Operation
from api.payloads import PageQuery
from engine import errors
from engine.records import Account, AlertsPage, LabelLimit, Profile

_ADMIN = Access(("admin",))

ROUTES = (
    Operation(
        method="GET",
        path="/v1/accounts/{user_id}",
        endpoint=accounts.get_account,
        summary="An account: its kind and limits, its freezes with who made them, when and why, and its debts.",
        access=_ADMIN,
        answer=Account,
        problems=(errors.UnavailableError,),
    ),
    Operation(
        method="PUT",
        path="/v1/accounts/{user_id}/freeze",
        endpoint=accounts.freeze_account,
        summary="Freeze an account: it cannot send, claim, transfer or withdraw. Its money stays where it is.",
        access=_ADMIN,
        body=accounts.FreezeBody,
        answer=accounts.FreezeAnswer,
        problems=(errors.UnavailableError,),
    ),
    Operation(
        method="DELETE",
        path="/v1/accounts/{user_id}/freeze",
        endpoint=accounts.lift_freeze,
        summary="Lift every freeze of a scope.",
        access=_ADMIN,
        query=accounts.LiftQuery,
        answer=accounts.FreezeAnswer,
        problems=(errors.UnavailableError,),
    ),
    Operation(
        method="PUT",
        path="/v1/accounts/{user_id}/profile",
        endpoint=accounts.put_profile,
        summary="Set an account's profile: person or merchant, the networks it may send from, its limits.",
        access=_ADMIN,
        body=accounts.ProfileBody,
        answer=Profile,
        problems=(errors.UnavailableError,),
    ),
    Operation(
        method="PUT",
        path="/v1/labels/{label}",
        endpoint=accounts.put_label,
        summary="Limit what is sent to a group per day.",
        access=_ADMIN,
        body=accounts.LabelBody,
        answer=LabelLimit,
        problems=(errors.UnavailableError,),
    ),
    Operation(
        method="GET",
        path="/v1/alerts",
        endpoint=accounts.list_alerts,
        summary="Alerts for the people who watch over the money, newest first.",
        access=_ADMIN,
        query=PageQuery,
        answer=AlertsPage,
        problems=(errors.UnavailableError,),
    ),
)
