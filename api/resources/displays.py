"""Display names: what others see of a user in place of the id."""

from typing import Annotated

from pydantic import Field

from api.answers import Answer, as_json
from api.auth import ANY_TOKEN, Access
from api.dispatch import Call, Operation
from api.payloads import Payload
from engine import errors
from engine.people.displays import NAME_LENGTH_MAX, Display


class DisplayBody(Payload):
    """A display name."""

    name: Annotated[str, Field(description=f"1 to {NAME_LENGTH_MAX} characters that people can read")]


async def put_display(call: Call) -> Answer:
    """Give a user a display name."""
    user_id = call.path["user_id"]
    call.caller.must_be(user_id)
    return as_json(await call.engine.displays.put(user_id, call.body.name))


async def get_display(call: Call) -> Answer:
    """Return a user's display name."""
    user_id = call.path["user_id"]
    call.caller.may_read(user_id)
    return as_json(await call.engine.displays.get(user_id))


async def delete_display(call: Call) -> Answer:
    """Forget a user's display name."""
    user_id = call.path["user_id"]
    call.caller.must_be(user_id)
    return as_json(await call.engine.displays.delete(user_id))


_OWN = Access(("send", "claim", "act"), for_user=True)

ROUTES = (
    Operation(
        method="PUT",
        path="/v1/users/{user_id}/display",
        endpoint=put_display,
        summary="Give a user the name that others see in lists, in place of the one before.",
        access=_OWN,
        body=DisplayBody,
        answer=Display,
        problems=(errors.UnavailableError,),
    ),
    Operation(
        method="GET",
        path="/v1/users/{user_id}/display",
        endpoint=get_display,
        summary="A user's display name, null without one, and the masked id that pages show then.",
        access=ANY_TOKEN,
        answer=Display,
        problems=(errors.UnavailableError,),
    ),
    Operation(
        method="DELETE",
        path="/v1/users/{user_id}/display",
        endpoint=delete_display,
        summary="Forget a user's display name. Nothing of it is kept.",
        access=_OWN,
        answer=Display,
        problems=(errors.UnavailableError,),
    ),
)
