"""One line of `hongbao doctor`, without secrets."""

from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit


class Level(StrEnum):
    """How much a line matters."""

    OK = "ok"
    WARNING = "warning"  # it works now; look at it soon
    PROBLEM = "problem"  # it does not work, or money is at risk


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One check: what was found and, unless it is ok, what to do."""

    name: str
    level: Level
    found: str
    advice: str = ""


def ok(name: str, found: str) -> Line:
    """The check passed."""
    return Line(name=name, level=Level.OK, found=found)


def warning(name: str, found: str, advice: str) -> Line:
    """It works, but somebody should look at it."""
    return Line(name=name, level=Level.WARNING, found=found, advice=advice)


def problem(name: str, found: str, advice: str) -> Line:
    """It does not work, or money is at risk."""
    return Line(name=name, level=Level.PROBLEM, found=found, advice=advice)


def place_of(url: str) -> str:
    """A server's URL without user, password and parameters, which may be secret."""
    parts = urlsplit(url)
    socket = next((word[5:] for word in parts.query.split("&") if word.startswith("host=")), "")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2] or socket}{parts.path}"


def without_secrets(text: str, *urls: str | None) -> str:
    """A message without the passwords of these URLs."""
    for url in urls:
        if url is not None and (password := urlsplit(url).password):
            text = text.replace(url, place_of(url)).replace(password, "***")
    return text


def megabytes(count_bytes: int) -> str:
    """A number of bytes as text."""
    return f"{count_bytes / 1_000_000:,.0f} MB"
