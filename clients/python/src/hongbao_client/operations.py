"""What an operation of the API is, and one call of it as a request."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import Enum, StrEnum
from typing import Any, Generic, Protocol, TypeVar, cast
from urllib.parse import quote
from uuid import uuid4

from pydantic import BaseModel, ValidationError

from hongbao_client.errors import UnreadableAnswerError

T = TypeVar("T")
_KEY = re.compile(r"[!-~]{1,255}", re.ASCII)


class Repeat(StrEnum):
    """What may be done after an answer was lost (``x-repeat`` in the OpenAPI document)."""

    ALWAYS = "always"  # the same request again does no more than the first
    WITH_KEY = "with-key"  # the same, because of its Idempotency-Key
    WHEN_UNDONE = "when-undone"  # only if it was surely not carried out


@dataclass(frozen=True, slots=True)
class Operation(Generic[T]):
    """One operation. ``answer``: what a success becomes; ``str`` for text.

    ``has_body`` None: only if a field is given. ``nullable``: fields of the body whose null means something; every
    other None is left out.
    """

    name: str
    method: str
    path: str
    answer: type[T]
    repeat: Repeat
    has_body: bool | None = False
    nullable: tuple[str, ...] = ()

    def call(
        self,
        path: Mapping[str, str | int] | None = None,
        *,
        query: Mapping[str, object] | None = None,
        body: Mapping[str, object] | None = None,
        key: str | None = None,
    ) -> "Call[T]":
        """One call. Raises ValueError for what can be no path, and for a key that can be no header.

        ``key`` None: of a request that takes one, a new one.
        """
        if key is not None and not _KEY.fullmatch(key):
            raise ValueError("idempotency_key must be 1 to 255 visible ASCII characters")
        if self.repeat is Repeat.WITH_KEY and key is None:
            key = uuid4().hex
        target = self.path
        for name, value in (path or {}).items():
            if str(value) in ("", ".", ".."):
                raise ValueError(f"{name} must not be {value!r}")
            target = target.replace(f"{{{name}}}", quote(str(value), safe=":@"))
        asked = {name: _as_text(value) for name, value in (query or {}).items() if value is not None}
        fields = {name: _plain(value) for name, value in (body or {}).items() if self._is_sent(name, value)}
        has_body = bool(fields) if self.has_body is None else self.has_body
        content = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode() if has_body else None
        return Call(self, target, asked, content, key)

    def _is_sent(self, name: str, value: object) -> bool:
        return value is not None or name in self.nullable

    def read(self, body: bytes) -> T:
        """The answer. Raises UnreadableAnswerError if it is not as the document says."""
        try:
            if issubclass(self.answer, BaseModel):
                return cast(T, self.answer.model_validate_json(body))
            text: object = body.decode() if self.answer is str else json.loads(body)
        except (ValidationError, ValueError) as error:
            raise UnreadableAnswerError(f"The answer to {self.name} is not as documented: {error}") from error
        if not isinstance(text, self.answer):
            raise UnreadableAnswerError(f"The answer to {self.name} is not as documented.")
        return text


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request that is the same in every try."""

    operation: Operation[T]
    target: str
    query: Mapping[str, str]
    content: bytes | None
    key: str | None

    def headers(self, token: str | None, user_id: str | None) -> dict[str, str]:
        """The headers: who asks, for whom, and the key."""
        kind = "application/json" if self.operation.answer is not str else "*/*"
        found = {"Accept": kind}
        if self.content is not None:
            found["Content-Type"] = "application/json"
        if self.key is not None:
            found["Idempotency-Key"] = self.key
        if token is not None:
            found["Authorization"] = f"Bearer {token}"
        if user_id is not None:
            found["X-User-Id"] = user_id
        return found


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of any status."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Lost:
    """No answer. ``was_sent``: the server may have the request."""

    error: Exception
    was_sent: bool


def _as_text(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    return str(value.value) if isinstance(value, Enum) else str(value)


def _plain(value: object) -> Any:  # noqa: ANN401  # JSON
    """A value as JSON has it. Of a record, only the fields that were given."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, str | int | float | bool) or value is None:
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value]  # type: ignore[attr-defined]  # a sequence, by the methods' types


class Ask(Protocol):
    """Does a call."""

    def __call__(self, call: Call[T], /) -> T:
        """The call's answer. Raises the errors of ``hongbao_client.errors``."""


class AsyncAsk(Protocol):
    """Does a call, awaited."""

    async def __call__(self, call: Call[T], /) -> T:
        """The call's answer. Raises the errors of ``hongbao_client.errors``."""
