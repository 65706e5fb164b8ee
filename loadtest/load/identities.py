"""The identities of a load test's users: bearer tokens made here, or one backend's token for all of them."""

from dataclasses import dataclass
from pathlib import Path

from engine.access import keyring, tokens
from engine.errors import OperatorError
from engine.settings import Settings

Headers = dict[str, str]
_USER_SCOPES = ("send", "claim")


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The operator's options. ``funded_senders``: users whose wallets already hold money."""

    data_dir: Path | None = None
    act_token: str | None = None
    admin_token: str | None = None
    funded_senders: tuple[str, ...] = ()
    ttl_s: int = 7_200


class Identities:
    """Headers that act for a user, or for an admin.

    Raises OperatorError, saying what is missing, if tokens were not given and cannot be made.
    """

    def __init__(self, given: Given) -> None:
        self.funded_senders = given.funded_senders
        self._ttl_s = given.ttl_s
        self._act_token = given.act_token
        self._secret = None if given.act_token else _secret(given.data_dir)
        self._admin_token = given.admin_token
        if self._secret is not None and self._admin_token is None:
            self._admin_token = tokens.issue(self._secret, "load-admin", ("admin",), given.ttl_s)
        if self._admin_token is None and not self.funded_senders:
            raise OperatorError(
                "Senders need money: give --admin-token so that it can be deposited, or --funded-senders with the ids "
                "of users whose wallets hold some."
            )

    @property
    def made_here(self) -> bool:
        """Whether tokens are signed with the secret of a local installation."""
        return self._secret is not None

    def of(self, user_id: str) -> Headers:
        """Headers that act for ``user_id``."""
        if self._secret is None:
            return {"Authorization": f"Bearer {self._act_token}", "X-User-Id": user_id}
        return {"Authorization": f"Bearer {tokens.issue(self._secret, user_id, _USER_SCOPES, self._ttl_s)}"}

    def of_admin(self) -> Headers | None:
        """Headers that may deposit and set profiles. None if senders were named: these are not changed."""
        if self._admin_token is None or self.funded_senders:
            return None
        return {"Authorization": f"Bearer {self._admin_token}"}


def _secret(data_dir: Path | None) -> bytes:
    """A local installation's secret. It is never created here, because no server would accept its tokens."""
    settings = Settings.load(data_dir=data_dir)
    if not keyring.is_given(settings):
        raise OperatorError(
            f"No tokens can be made: {settings.data_dir} holds no installation and HONGBAO_AUTH_SECRET is not set. "
            "Name the folder of one with --data-dir (`make load DATA_DIR=...`), "
            "or give a backend's token with --act-token."
        )
    return tokens.load_secret(settings)
