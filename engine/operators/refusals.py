"""Why an operator is refused. Each has a stable ``code``, which the console shows in the operator's language."""

from engine.errors import HongbaoError


class SignInRefusedError(HongbaoError):
    """The name, the password or the code is wrong. Which one is not told, but for the log: ``is_locked``."""

    code = "sign_in_refused"

    def __init__(self, text: str = "The name, the password or the code is wrong.", *, is_locked: bool = False) -> None:
        super().__init__(text)
        self.is_locked = is_locked


class SignInLockedError(HongbaoError):
    """Too many wrong tries in a row. ``until_ms``: for how long it locks. ``is_right``: this try was right."""

    code = "sign_in_locked"

    def __init__(self, until_ms: int, *, is_right: bool = False) -> None:
        super().__init__("There were too many wrong tries. Wait, or ask an admin to reset the sign-in.")
        self.until_ms, self.is_right = until_ms, is_right


class TooManyTriesError(HongbaoError):
    """Too many tries to sign in came from one address."""

    code = "too_many_tries"


class WeakPasswordError(HongbaoError):
    """The new password is too short, too long, or contains the operator's name."""

    code = "weak_password"


class WrongCodeError(HongbaoError):
    """The code of the authenticator is wrong, too old, or was used before."""

    code = "wrong_code"


class NotVouchedError(HongbaoError):
    """Whom the provider names may not sign in: no operator, disabled, or not set up. Which of these is for the log."""

    code = "not_vouched"


class ProviderAwayError(HongbaoError):
    """The provider of single sign-on does not answer. Its text, which says what was tried, is for the log."""

    code = "provider_away"


class ProviderRefusedError(HongbaoError):
    """What the provider says does not hold, or it refuses. Its text says why, for the log."""

    code = "provider_refused"


class HandshakeEndedError(HongbaoError):
    """A browser came back from the provider that we have not sent there, or not lately. Its text is for the log."""

    code = "handshake_ended"


class LinkEndedError(HongbaoError):
    """The set-up link was used, replaced or is too old."""

    code = "link_ended"


class UnknownOperatorError(HongbaoError):
    """No operator has this name."""

    code = "unknown_operator"


class OperatorExistsError(HongbaoError):
    """An operator with this name exists, disabled or not. Names are never given twice."""

    code = "operator_exists"


class NotPermittedError(HongbaoError):
    """The operator's role does not allow this."""

    code = "not_permitted"


class UnknownApprovalError(HongbaoError):
    """No approval has this number."""

    code = "unknown_approval"


class ApprovalEndedError(HongbaoError):
    """The approval was decided, withdrawn, or is too old."""

    code = "approval_ended"


class AlreadyDoneError(HongbaoError):
    """What an approval is about was done already, and only its approval can note that."""

    code = "already_done"


class AskerMayNotError(HongbaoError):
    """Who asked for an approval cannot sign in any more, or has another role."""

    code = "asker_may_not"


class SameOperatorError(HongbaoError):
    """Who asked cannot approve. Another operator must."""

    code = "same_operator"


class ApprovalChangedError(HongbaoError):
    """What would be done is not what was asked, or not what the operator has seen."""

    code = "approval_changed"
