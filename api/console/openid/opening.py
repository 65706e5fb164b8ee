"""Single sign-on as the settings have it."""

import ipaddress
from importlib.util import find_spec

from api.console.openid.claims import SingleSignOn
from engine.errors import OperatorError
from engine.settings import Settings

CALLBACK = "/oidc/callback"


def opened(settings: Settings, origin: str) -> SingleSignOn | None:
    """The provider of the settings, if they have one. It is not asked anything yet. ``origin``: the console's.

    Raises OperatorError, which says what to do, if it could not be used.
    """
    if settings.console_oidc_issuer is None:
        return None
    if find_spec("authlib") is None:
        raise OperatorError(
            "HONGBAO_CONSOLE_OIDC_ISSUER needs Authlib: install it with pip install 'hongbao[oidc]'.", exit_code=2
        )
    if settings.console_origin is None and ipaddress.ip_address(settings.console_host).is_unspecified:
        raise OperatorError(
            "HONGBAO_CONSOLE_OIDC_ISSUER needs HONGBAO_CONSOLE_ORIGIN, so that the provider knows where to send people."
        )
    from api.console.openid.provider import Provider  # noqa: PLC0415  # Authlib is not always there

    return Provider(settings, f"{origin}{CALLBACK}")
