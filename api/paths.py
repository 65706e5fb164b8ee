"""The names in the routes' paths: what each stands for, its form, and the error for a text of another form."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from api.payloads import USER_ID_FORM
from api.problems import UnknownRouteError
from engine.errors import (
    FieldProblem,
    HongbaoError,
    UnknownPacketError,
    UnknownTransactionError,
)
from engine.ids import NUMBER_PATTERN, USER_ID_RULE
from engine.wallets.assets import CODE_PATTERN, CODE_RULE
from engine.wechatpay.merchants import MCH_ID_RULE

PACKET_NUMBER_FORM = f"^{NUMBER_PATTERN}$"
"""A transfer is a packet of one share, so it has such a number, too."""
ASSET_FORM = f"^{CODE_PATTERN}$"
ROW_NUMBER_FORM = "^[1-9][0-9]{0,17}$"
"""Numbers that the ledger counts from 1."""
WAVE_FORM = "^[1-9][0-9]?$"


COUPON_FORM = "^[1-9][0-9]{0,17}-[1-9][0-9]{0,7}$"
MCH_ID_FORM = "^[0-9]{6,32}$"
PART_FORM = "^(?:[1-9][0-9]{0,5}|1000000)$"


class PathName(NamedTuple):
    """``form``: a regular expression. ``unknown``: the error for any other text. None: 422 ``invalid_fields``."""

    description: str
    form: str
    unknown: type[HongbaoError] | None
    sentence: str


_NO_PACKET, _NO_ROW = "Not a packet number.", "Not found: the number in the path is not valid."
PATH_NAMES = {
    "packet_id": PathName("A packet's number", PACKET_NUMBER_FORM, UnknownPacketError, _NO_PACKET),
    "transfer_id": PathName("A transfer's number", PACKET_NUMBER_FORM, UnknownPacketError, _NO_PACKET),
    "number": PathName("A packet's or a transfer's number", PACKET_NUMBER_FORM, UnknownTransactionError, _NO_PACKET),
    "dispute_id": PathName("A dispute", ROW_NUMBER_FORM, UnknownRouteError, _NO_ROW),
    "withdrawal_id": PathName("A withdrawal", ROW_NUMBER_FORM, UnknownRouteError, _NO_ROW),
    "user_id": PathName("A user", USER_ID_FORM, None, USER_ID_RULE),
    "label": PathName("A group", USER_ID_FORM, None, USER_ID_RULE),
    "campaign_id": PathName("A campaign", ROW_NUMBER_FORM, UnknownRouteError, _NO_ROW),
    "wave": PathName("A wave's number, from 1", WAVE_FORM, None, "must be a whole number from 1 to 99"),
    "fundraiser_id": PathName("A fundraiser", ROW_NUMBER_FORM, UnknownRouteError, _NO_ROW),
    "gift_id": PathName("A gift", ROW_NUMBER_FORM, UnknownRouteError, _NO_ROW),
    "batch_id": PathName("A batch of coupons", ROW_NUMBER_FORM, UnknownRouteError, _NO_ROW),
    "coupon_id": PathName("A coupon: its batch, and its number in it", COUPON_FORM, UnknownRouteError, _NO_ROW),
    "part": PathName("A part, numbered by its uploader", PART_FORM, None, "must be from 1 to 1000000"),
    "set_id": PathName("A set of cards", ROW_NUMBER_FORM, UnknownRouteError, _NO_ROW),
    "offer_id": PathName("An offer of a card", ROW_NUMBER_FORM, UnknownRouteError, _NO_ROW),
    "mch_id": PathName("A merchant of WeChat Pay's calls", MCH_ID_FORM, None, MCH_ID_RULE),
    "asset": PathName("An asset", ASSET_FORM, None, CODE_RULE),
}
_FORMS = {name: re.compile(kind.form, re.ASCII) for name, kind in PATH_NAMES.items()}


def names_in(template: str) -> list[str]:
    """The names in a route's path, in the order of the table."""
    return [name for name in PATH_NAMES if f"{{{name}}}" in template]


def check(path: Mapping[str, str], problems: list[FieldProblem]) -> None:
    """Check each name's text. Raises the error of the first that stands for nothing, or adds to ``problems``."""
    for name, text in path.items():
        if _FORMS[name].fullmatch(text):
            continue
        kind = PATH_NAMES[name]
        if kind.unknown is not None:
            raise kind.unknown(kind.sentence)
        problems.append(FieldProblem(name, kind.sentence))
