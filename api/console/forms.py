"""Reads what a browser sends: the query and a form. Both are bounded, and every text is one that can be kept."""

from urllib.parse import parse_qsl

from starlette.types import Receive

from api.bodies import Reader, headers_of
from api.problems import MalformedError, UnsupportedMediaTypeError

BODY_BYTES_MAX = 65_536
FIELDS_MAX = 1_100
"""Above the rows that a page shows: "selected ones" is a field each."""
FIELD_LENGTH_MAX = 20_000
QUERY_BYTES_MAX = 4_096
QUERY_FIELDS_MAX = 40
NAME_LENGTH_MAX = 64
_FORM = b"application/x-www-form-urlencoded"
_ALLOWED_CONTROLS = "\n\r\t"


class Fields:
    """Texts by name. If a name came several times, its first text counts, and ``all`` has every one."""

    def __init__(self, pairs: list[tuple[str, str]] | None = None) -> None:
        self._texts: dict[str, list[str]] = {}
        for name, text in pairs or []:
            self._texts.setdefault(name, []).append(text.strip())

    def names(self) -> list[str]:
        """All names, in the order in which they came."""
        return list(self._texts)

    def all(self, name: str) -> list[str]:
        """Every text of this name, in order."""
        return list(self._texts.get(name, ()))

    def text(self, name: str) -> str:
        """The text of this name; empty if there is none."""
        return self._texts[name][0] if name in self._texts else ""


def query_of(query: bytes) -> Fields:
    """The fields of a query. Empty ones count as not there. Raises MalformedError."""
    if len(query) > QUERY_BYTES_MAX:
        raise MalformedError(f"The query must be at most {QUERY_BYTES_MAX} bytes.", field="query")
    return Fields([(name, text) for name, text in _pairs(query, QUERY_FIELDS_MAX, "query") if text.strip()])


async def form_of(headers: list[tuple[bytes, bytes]], receive: Receive) -> Fields:
    """The fields of a form.

    Raises MalformedError, UnsupportedMediaTypeError, TooLargeError, SlowBodyError, DisconnectedError.
    """
    found = headers_of({"headers": headers})
    body = await Reader(receive).read(found, bytes_max=BODY_BYTES_MAX)
    kind = found.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if body and kind != _FORM:
        raise UnsupportedMediaTypeError("A form must be application/x-www-form-urlencoded.")
    return Fields(_pairs(body, FIELDS_MAX, "form"))


def _pairs(text: bytes, fields_max: int, what: str) -> list[tuple[str, str]]:
    try:
        pairs = parse_qsl(
            text.decode("ascii"), keep_blank_values=True, max_num_fields=fields_max, errors="strict", encoding="utf-8"
        )
    except ValueError:  # not ASCII, not UTF-8 once decoded, or too many fields
        raise MalformedError(
            f"The {what} cannot be read, or it has more than {fields_max} fields.", field=what
        ) from None
    for name, value in pairs:
        if len(name) > NAME_LENGTH_MAX or len(value) > FIELD_LENGTH_MAX:
            raise MalformedError(f"A field of the {what} is too long.", field=what)
        if not _can_be_kept(name) or not _can_be_kept(value):
            raise MalformedError(f"A field of the {what} has a character that no text may have.", field=what)
    return pairs


def _can_be_kept(text: str) -> bool:
    return all((character >= " " and character != "\x7f") or character in _ALLOWED_CONTROLS for character in text)
