"""Models of what clients send and receive. They check bodies and queries, and the OpenAPI document is made from them.

Types are strict (1.0 and true are not 1) and unknown fields are refused. ``engine.packets.terms`` checks a packet's
terms, all at once; here they are only documented. If an answer is a record of the engine, it has no model here.
"""

import re
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from engine.errors import FieldProblem
from engine.ids import USER_ID_PATTERN, USER_ID_RULE
from engine.records import CLAIMS_PER_CALL_MAX, FEN_MAX, Coupon, PacketState
from engine.text import TEXT_RULE, is_readable

USER_ID_FORM = f"^{USER_ID_PATTERN}$"
BATCH_CLAIMS_MAX = CLAIMS_PER_CALL_MAX
PAGE_MAX = 1_000
PAGE_DEFAULT = 100
PEOPLE_MAX = 10_000_000
"""As many as a packet can ever have shares."""
TEXT = "At most HONGBAO_GREETING_LENGTH_MAX characters that people can read"

_DIGITS = re.compile(r"[0-9]{1,9}", re.ASCII)
_DAY = re.compile(r"2[0-9]{3}-[0-9]{2}-[0-9]{2}", re.ASCII)
_SHOWN_MAX = 100
_MESSAGES = {
    "missing": "is required",
    "date_from_datetime_parsing": "must be a valid date (YYYY-MM-DD)",
    "date_parsing": "must be a valid date (YYYY-MM-DD)",
    "extra_forbidden": "is not a known field",
    "int_type": f"must be a whole number of at most {FEN_MAX}, not text, a fraction or true/false",
    "string_type": "must be text",
    "list_type": "must be a list",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dict_type": "must be an object",
}


def _number(text: object) -> object:
    if isinstance(text, str) and not _DIGITS.fullmatch(text):
        raise ValueError("must be a whole number")
    return text


def _day(text: object) -> object:
    if isinstance(text, str) and not _DAY.fullmatch(text):
        raise ValueError("must be a valid date (YYYY-MM-DD)")
    return text


def _plain(text: str) -> str:
    if not is_readable(text):
        raise ValueError(TEXT_RULE)
    return text


PLAIN_TEXT = AfterValidator(_plain)
UserId = Annotated[
    str,
    Field(pattern=USER_ID_FORM, description="1-64 of A-Z a-z 0-9 . _ : @ -, and neither . nor ..", examples=["alice"]),
]
Fen = Annotated[int, Field(ge=1, le=FEN_MAX, description="Money in fen: hundredths of the ledger's currency")]
AssetCode = Annotated[
    str | None,
    Field(max_length=64, description="The asset, one that `GET /v1/assets` lists; left out: the ledger's currency"),
]


def _noted(description: str) -> Any:  # noqa: ANN401 -- that is what Field returns
    return Field(description=description, json_schema_extra={"minimum": 1})


class Payload(BaseModel):
    """The base of every payload: strict types, no unknown fields, immutable."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class PacketBody(Payload):
    """A packet to send or to preview."""

    total_fen: Annotated[int, _noted("The sum of all shares, in fen: from count x min_fen to count x max_fen")]
    count: Annotated[
        int,
        _noted("How many shares; at most HONGBAO_COUNT_MAX from a person, HONGBAO_MERCHANT_COUNT_MAX from a merchant"),
    ]
    split: Annotated[
        Literal["lucky", "equal", "exclusive"],
        Field(description="lucky: shares differ; equal: all the same; exclusive: one share for one recipient"),
    ]
    min_fen: Annotated[
        int | None, _noted("The smallest that a share can be; at least HONGBAO_SHARE_FEN_MIN, which is the default")
    ] = None
    max_fen: Annotated[
        int | None,
        _noted(
            "The largest that a share can be; at most HONGBAO_SHARE_FEN_MAX, on festivals "
            "HONGBAO_FESTIVAL_SHARE_FEN_MAX, which is the default"
        ),
    ] = None
    ttl_s: Annotated[
        int | None,
        _noted(
            "Seconds until unclaimed shares are refunded; at most HONGBAO_TTL_S_MAX, HONGBAO_TTL_S_DEFAULT if left out"
        ),
    ] = None
    timed: Annotated[bool, Field(description="Expires after HONGBAO_TIMED_TTL_S seconds; ttl_s must be left out")] = (
        False
    )
    label: Annotated[str | None, Field(description="The group it is sent to; the form of a user id")] = None
    greeting: Annotated[str, Field(description=TEXT)] = ""
    recipients: Annotated[
        list[str],
        Field(description="The users who can claim, at most HONGBAO_RECIPIENTS_MAX; empty: anyone with the number"),
    ] = []
    ack: Annotated[
        Literal["memory", "fsync", "replica", "ledger"] | None,
        Field(
            description="What must have happened before a claim is acknowledged; at least HONGBAO_ACK, "
            "which is the default"
        ),
    ] = None
    asset: AssetCode = None


class ClaimBody(Payload):
    """A claim needs no body. An empty object is the same as no body."""


class ClaimItem(Payload):
    """One claim of a batch."""

    packet_id: Annotated[str, Field(max_length=64, description="The packet's number")]
    user_id: Annotated[UserId, Field(description="Who claims")]


class ClaimsBody(Payload):
    """Many claims at once, by a backend."""

    claims: Annotated[
        list[ClaimItem], Field(min_length=1, max_length=BATCH_CLAIMS_MAX, description="Claims of any packets and users")
    ]


class DepositBody(Payload):
    """Money from outside into a wallet."""

    amount_fen: Annotated[
        Fen, Field(description="In fen, at most HONGBAO_DEPOSIT_FEN_MAX; of another asset: in its smallest unit")
    ]
    asset: AssetCode = None


class PageQuery(BaseModel):
    """A part of a list. ``after`` is the ``next`` of the page before."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    limit: Annotated[
        int, Field(ge=1, le=PAGE_MAX, description="How many entries at most"), BeforeValidator(_number)
    ] = PAGE_DEFAULT
    after: Annotated[
        str | None,
        Field(pattern=r"^[!-~]{1,200}$", description="The `next` of the page before; left out for the first page"),
    ] = None


class NewestFirstQuery(PageQuery):
    """A part of a list that only grows at its top."""

    after: Annotated[
        str | None,
        Field(
            pattern=r"^[!-~]{1,200}$",
            description="The `next` of the page before; left out for the first page. New entries appear only at the "
            "top: read down to the first known entry to have everything",
        ),
    ] = None


class AssetQuery(BaseModel):
    """Which balance."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    asset: AssetCode = None


class EntriesQuery(NewestFirstQuery):
    """A part of a wallet's entries."""

    asset: AssetCode = None


class RecordsQuery(EntriesQuery):
    """A part of a user's records."""

    role: Annotated[Literal["sent", "received"], Field(description="Which of the user's packets")]


class SuggestionsQuery(BaseModel):
    """For whom a packet is. Both may be left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    label: Annotated[
        str | None,
        Field(pattern=USER_ID_FORM, description="The group it is for, as in `POST /v1/packets`"),
    ] = None
    count: Annotated[
        int | None,
        Field(ge=1, le=PEOPLE_MAX, description="How many people are in the group"),
        BeforeValidator(_number),
    ] = None


class StatementQuery(BaseModel):
    """The first and the last day, in China. Without them: this month so far."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    first: Annotated[date | None, BeforeValidator(_day), Field(alias="from", description="The first day")] = None
    to: Annotated[
        date | None, BeforeValidator(_day), Field(description="The last day, at most 30 days after the first")
    ] = None
    asset: AssetCode = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SentAnswer:
    """A packet was paid for."""

    packet_id: str
    state: PacketState
    total_fen: int
    count: int
    expires_at_ms: int
    commitment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewAnswer:
    """A sample split and its terms. Nothing was stored. The real split will differ."""

    total_fen: int
    count: int
    split: str
    min_fen: int
    max_fen: int
    ttl_s: int
    greeting: str
    recipients: list[str]
    amounts_fen: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimAnswer:
    """A claim's result. ``amount_fen`` is 0 unless claimed or already_claimed. Losing is a normal answer.

    ``coupon``: of a packet of coupons, the one that the user has got.
    """

    outcome: Literal["claimed", "already_claimed", "sold_out", "expired", "retracted"]
    amount_fen: int
    packet_id: str
    user_id: str
    coupon: Coupon | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRefusal:
    """A claim of a batch that could not be decided. ``code`` is the code that a single claim's problem would have.

    ``retry_after_s``: the Retry-After that it would have, with some codes. ``until_ms``: with limit_reached.
    """

    packet_id: str
    user_id: str
    code: str
    detail: str
    retry_after_s: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimsAnswer:
    """One result per claim, in the same order."""

    results: list[ClaimAnswer | ClaimRefusal]


@dataclass(frozen=True, slots=True, kw_only=True)
class DepositAnswer:
    """The deposit's ledger entry and the balance after it."""

    transfer_id: str
    user_id: str
    amount_fen: int
    balance_fen: int
    asset: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusAnswer:
    """A process's state."""

    status: Literal["live"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyAnswer:
    """A process that can do its work. ``not_serving``: with several Redis servers, why some lanes do not serve."""

    status: Literal["ready"]
    not_serving: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldProblemAnswer:
    """One bad field, as the client spelt it."""

    field: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """RFC 9457 problem details. ``code`` is stable."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldProblemAnswer] | None = None
    reasons: list[str] | None = None
    limit: str | None = None
    limit_fen: int | None = None
    left_fen: int | None = None
    tries_left: int | None = None
    locked_until_ms: int | None = None
    until_ms: int | None = None
    state: str | None = None


Model = TypeVar("Model", bound=BaseModel)


def checked(model: type[Model], value: object, problems: list[FieldProblem]) -> Model | None:
    """``value`` as ``model``. If it is invalid, returns None and adds every bad field to ``problems``."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems += [
            FieldProblem(_field(problem["loc"]), _message(problem)) for problem in error.errors(include_url=False)
        ]
        return None


def _field(location: tuple[int | str, ...]) -> str:
    name = ""
    for part in location:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
    return name[:_SHOWN_MAX] or "body"


def _message(problem: Any) -> str:  # noqa: ANN401 -- pydantic's ErrorDetails, whose ctx differs by type
    context: dict[str, Any] = problem.get("ctx", {})
    match problem["type"]:
        case "greater_than_equal":
            return f"must be at least {context['ge']}"
        case "less_than_equal":
            return f"must be at most {context['le']}"
        case "literal_error":
            return f"must be {context['expected']}"
        case "value_error":
            return str(context["error"])
        case "string_pattern_mismatch" if context["pattern"] == USER_ID_FORM:
            return USER_ID_RULE
        case kind:
            return _MESSAGES.get(kind) or str(problem["msg"])
