"""What a user has won in a campaign so far."""

from api.answers import Answer, as_json
from api.auth import ANY_TOKEN
from api.dispatch import Call, Operation
from engine import errors
from engine.campaigns.wins import CampaignWins


async def list_wins(call: Call) -> Answer:
    """Return what a user has won in a campaign so far."""
    campaign_id, user_id, caller = call.path["campaign_id"], call.path["user_id"], call.caller
    caller.may_read(user_id)
    won = await call.engine.wins.of(campaign_id, user_id)
    return as_json(won if caller.user_id == user_id else won.without_codes())


ROUTES = (
    Operation(
        method="GET",
        path="/v1/campaigns/{campaign_id}/wins/{user_id}",
        endpoint=list_wins,
        summary="What a user has won in a campaign so far, at once after it was given, without grabbing.",
        access=ANY_TOKEN,
        answer=CampaignWins,
        problems=(errors.UnknownCampaignError, errors.UnconfirmedError, errors.UnavailableError),
    ),
)
