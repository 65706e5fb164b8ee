"""What the provider says, once it is proved to say it."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouched:
    """Somebody whom the provider vouches for. ``has_second_factor``: it has asked for one that the settings accept."""

    name: str
    has_second_factor: bool


class SingleSignOn(Protocol):
    """A provider. Both methods raise ProviderAwayError if it does not answer."""

    async def authorization_url(self, *, state: str, nonce: str, verifier: str) -> str:
        """Where the browser is sent."""
        ...

    async def vouched(self, *, code: str, issuer: str, nonce: str, verifier: str) -> Vouched:
        """Who came back with this code. ``issuer``: as the way back names it, or empty.

        Raises ProviderRefusedError if what the provider says does not hold.
        """
        ...
