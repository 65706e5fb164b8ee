"""One line of what `hongbao doctor` says, and who may be quoted in it."""

from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit


class Level(StrEnum):
    """How much a line matters."""

    OK = "ok"
    WARNING = "warning"  # works now; look at it soon
    PROBLEM = "problem"  # does not work, or money is at risk


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One thing that was looked at: what was found and, unless it is ok, what to do."""

    name: str
    level: Level
    found: str
    advice: str = ""


def ok(name: str, found: str) -> Line:
    """It is as it should be."""
    return Line(name=name, level=Level.OK, found=found)


def warning(name: str, found: str, advice: str) -> Line:
    """It works, and should be looked at."""
    return Line(name=name, level=Level.WARNING, found=found, advice=advice)


def problem(name: str, found: str, advice: str) -> Line:
    """It does not work, or money is at risk."""
    return Line(name=name, level=Level.PROBLEM, found=found, advice=advice)


def place_of(url: str) -> str:
    """A server's URL without what may be secret in it: user, password and parameters are left out."""
    parts = urlsplit(url)
    socket = next((word[5:] for word in parts.query.split("&") if word.startswith("host=")), "")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2] or socket}{parts.path}"


def without_secrets(text: str, *urls: str | None) -> str:
    """A message with every password of these URLs taken out."""
    for url in urls:
        if url is not None and (password := urlsplit(url).password):
            text = text.replace(url, place_of(url)).replace(password, "***")
    return text


def megabytes(count_bytes: int) -> str:
    """A number of bytes as people read it."""
    return f"{count_bytes / 1_000_000:,.0f} MB"
