"""How the console answers errors: a status, a title in the operator's language, and a sentence."""

from api import problems
from api.console.csv_files import TooManyRowsError
from api.console.texts import marked
from engine.auditing.runs import HeavyJobError, UnknownRunError
from engine.errors import HongbaoError
from engine.operators import refusals
from engine.risk.freeze_lists import UnknownFreezeError
from engine.wallets.payouts import PayoutMismatchError


class NotDoneError(HongbaoError):
    """What an operator asked for could not be done, and nothing was changed. Its text says why."""

    code = "not_done"


_STATUSES: dict[type[HongbaoError], int] = {
    refusals.NotPermittedError: 403,
    refusals.SameOperatorError: 403,
    refusals.SignInRefusedError: 403,
    refusals.WrongCodeError: 403,
    refusals.NotVouchedError: 403,
    refusals.ProviderRefusedError: 403,
    refusals.HandshakeEndedError: 403,
    refusals.ProviderAwayError: 503,
    refusals.SignInLockedError: 423,
    refusals.TooManyTriesError: 429,
    refusals.WeakPasswordError: 422,
    refusals.LinkEndedError: 404,
    refusals.UnknownOperatorError: 404,
    refusals.UnknownApprovalError: 404,
    refusals.OperatorExistsError: 409,
    refusals.ApprovalEndedError: 409,
    refusals.ApprovalChangedError: 409,
    refusals.AskerMayNotError: 409,
    refusals.AlreadyDoneError: 409,
    UnknownFreezeError: 404,
    UnknownRunError: 404,
    HeavyJobError: 409,
    PayoutMismatchError: 409,
    NotDoneError: 409,
    TooManyRowsError: 409,
}
_TITLES = {
    400: marked("This request cannot be read"),
    403: marked("This is not allowed"),
    404: marked("There is nothing here"),
    405: marked("This is not allowed"),
    408: marked("The form came too slowly"),
    409: marked("This cannot be done now"),
    413: marked("The form is too large"),
    415: marked("This request cannot be read"),
    421: marked("This console has another address"),
    422: marked("Some fields are wrong"),
    423: marked("Locked for a while"),
    429: marked("Too many requests"),
    500: marked("The console failed"),
    503: marked("A server does not answer"),
}
_SENTENCES: dict[type[HongbaoError], str] = {
    refusals.NotPermittedError: marked("Your role does not allow this. An admin can give you another one."),
    refusals.SameOperatorError: marked("You asked for this. Another operator must approve it."),
    refusals.SignInRefusedError: marked(
        "The name, the password or the code is wrong. Five wrong tries in a row lock an operator for a quarter of "
        "an hour."
    ),
    refusals.SignInLockedError: marked("There were too many wrong tries. Wait a quarter of an hour, or ask an admin."),
    refusals.TooManyTriesError: marked("There were too many tries from this address. Wait a minute."),
    refusals.WrongCodeError: marked(
        "The code is wrong, too old, or was used before. Enter the one that the app shows now."
    ),
    refusals.NotVouchedError: marked(
        "The provider has signed you in, but no operator may come in under that name. Ask an admin."
    ),
    refusals.ProviderAwayError: marked(
        "The provider of single sign-on does not answer. Try again, or sign in with your password."
    ),
    refusals.ProviderRefusedError: marked("The provider of single sign-on has not signed you in. Begin again."),
    refusals.HandshakeEndedError: marked(
        "This sign-in was not begun in this browser, or more than five minutes ago. Begin again."
    ),
    refusals.LinkEndedError: marked(
        "This link was used, was replaced, or is older than ten minutes. Ask for a new one."
    ),
    refusals.ApprovalEndedError: marked("This was decided, was withdrawn, or has waited for more than a day."),
    refusals.ApprovalChangedError: marked("What would be done is not what you saw. Open it again."),
    refusals.AlreadyDoneError: marked(
        "This was done already, by a console that stopped before it could note it. It cannot be refused or withdrawn "
        "any more. Approve it: then it is noted, and nothing is done twice."
    ),
    refusals.AskerMayNotError: marked("Who asked for this may do it no longer. Refuse it: somebody else can ask anew."),
}
INTERNAL = 500


def status_of(error: Exception) -> int:
    """The status of an error; 500 if it is none of ours."""
    for parent in type(error).__mro__:
        if parent in _STATUSES:
            return _STATUSES[parent]
    return problems.kind_of(type(error)).status


def title_of(status: int) -> str:
    """What a page with this status is headed, not translated yet."""
    return _TITLES.get(status, _TITLES[INTERNAL])


def sentence_of(error: Exception) -> str:
    """What is wrong: ours, not translated yet, or the error's own. A failure does not say more than that."""
    if not isinstance(error, HongbaoError) or status_of(error) == INTERNAL:
        return ""
    return _SENTENCES.get(type(error), str(error))
