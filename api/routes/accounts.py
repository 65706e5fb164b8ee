"""Accounts, limits of groups, alerts: for those who watch over the money."""

from api import accounts
from api.auth import Access
from api.dispatch import Operation
from api.payloads import PageQuery
from engine.records import Account, AlertsPage, LabelLimit, Profile

_ADMIN = Access(("admin",))

ROUTES = (
    Operation(
        method="GET",
        path="/v1/accounts/{user_id}",
        endpoint=accounts.get_account,
        summary="An account: its kind and limits, what is frozen and who did it when and why, what it owes.",
        access=_ADMIN,
        answer=Account,
        problems=(503,),
    ),
    Operation(
        method="PUT",
        path="/v1/accounts/{user_id}/freeze",
        endpoint=accounts.freeze_account,
        summary="Freeze an account: it sends, claims, transfers and withdraws nothing. Its money stays where it is.",
        access=_ADMIN,
        body=accounts.FreezeBody,
        answer=accounts.FreezeAnswer,
        problems=(503,),
    ),
    Operation(
        method="DELETE",
        path="/v1/accounts/{user_id}/freeze",
        endpoint=accounts.lift_freeze,
        summary="Lift every freeze of a scope.",
        access=_ADMIN,
        query=accounts.LiftQuery,
        answer=accounts.FreezeAnswer,
        problems=(503,),
    ),
    Operation(
        method="PUT",
        path="/v1/accounts/{user_id}/profile",
        endpoint=accounts.put_profile,
        summary="Say what an account is: person or merchant, from where it sends, its limits.",
        access=_ADMIN,
        body=accounts.ProfileBody,
        answer=Profile,
        problems=(503,),
    ),
    Operation(
        method="PUT",
        path="/v1/labels/{label}",
        endpoint=accounts.put_label,
        summary="Limit what is sent to a group in a day.",
        access=_ADMIN,
        body=accounts.LabelBody,
        answer=LabelLimit,
        problems=(503,),
    ),
    Operation(
        method="GET",
        path="/v1/alerts",
        endpoint=accounts.list_alerts,
        summary="What somebody should look at, newest first.",
        access=_ADMIN,
        query=PageQuery,
        answer=AlertsPage,
        problems=(503,),
    ),
)
