"""Lists page by page: each entry once, in the list's order, until the last page."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from hongbao_client.errors import UnreadableAnswerError


class Page(Protocol):
    """A part of a list."""

    @property
    def next(self) -> str | None:
        """The cursor of the page after it; None on the last page."""


Item = TypeVar("Item")
SomePage = TypeVar("SomePage", bound=Page)


def items(
    ask: Callable[[str | None], SomePage], entries: Callable[[SomePage], Sequence[Item]], after: str | None
) -> Iterator[Item]:
    """All entries after a cursor. A page is asked for when its first entry is wanted."""
    while True:
        page = ask(after)
        yield from entries(page)
        if page.next is None:
            return
        after = _moved(after, page.next)


async def async_items(
    ask: Callable[[str | None], Awaitable[SomePage]],
    entries: Callable[[SomePage], Sequence[Item]],
    after: str | None,
) -> AsyncIterator[Item]:
    """The same, awaited."""
    while True:
        page = await ask(after)
        for entry in entries(page):
            yield entry
        if page.next is None:
            return
        after = _moved(after, page.next)


def _moved(after: str | None, following: str) -> str:
    if following == after:
        raise UnreadableAnswerError("A page names itself as the next: the list has no end.")
    return following
