"""Suggestions for packets to send."""

from api.answers import Answer, as_json
from api.auth import ANY_TOKEN
from api.dispatch import Call, Operation
from api.payloads import SuggestionsQuery
from engine import errors
from engine.packets.suggesting import Suggested


async def get_suggestions(call: Call) -> Answer:
    """Return packets that would fit today, with the reasons."""
    user_id, query = call.path["user_id"], call.query
    call.caller.may_read(user_id)
    return as_json(await call.engine.suggestions.of(user_id, label=query.label, people=query.count))


ROUTES = (
    Operation(
        method="GET",
        path="/v1/users/{user_id}/suggestions",
        endpoint=get_suggestions,
        summary="Up to 5 packets that fit today's festival, the user and a group: amounts, splits and greetings, each "
        "with its reasons. Each can be sent as it stands, once the wallet holds its total.",
        access=ANY_TOKEN,
        query=SuggestionsQuery,
        answer=Suggested,
        problems=(errors.UnavailableError,),
    ),
)
