"""Assets: what the ledger counts in besides its currency."""

from typing import Annotated

from pydantic import Field

from api.answers import Answer, as_json
from api.auth import ANY_TOKEN, Access
from api.dispatch import Call, Operation
from api.payloads import PLAIN_TEXT, PageQuery, Payload
from engine import errors
from engine.wallets.assets import NAME_LENGTH_MAX, SCALE_MAX, Asset, AssetsPage, HoldingsPage


class AssetBody(Payload):
    """An asset. It can never be changed."""

    scale: Annotated[int, Field(ge=0, le=SCALE_MAX, description="How many decimals: amounts are 10^-scale of it")]
    name: Annotated[
        str, Field(min_length=1, max_length=NAME_LENGTH_MAX, description="For people, in their language"), PLAIN_TEXT
    ]


async def put_asset(call: Call) -> Answer:
    """Add an asset. The same again changes nothing."""
    body = call.body
    return as_json(await call.engine.assets.define(call.path["asset"], scale=body.scale, name=body.name))


async def get_asset(call: Call) -> Answer:
    """Return an asset."""
    return as_json(await call.engine.assets.get(call.path["asset"]))


async def list_assets(call: Call) -> Answer:
    """Return the assets in the order of their codes."""
    return as_json(await call.engine.assets.page(after=call.query.after, limit=call.query.limit))


async def list_holdings(call: Call) -> Answer:
    """Return a user's balances of assets."""
    user_id, query = call.path["user_id"], call.query
    call.caller.may_read(user_id)
    return as_json(await call.engine.assets.holdings(user_id, after=query.after, limit=query.limit))


ROUTES = (
    Operation(
        method="GET",
        path="/v1/assets",
        endpoint=list_assets,
        summary="The assets besides the ledger's currency, in the order of their codes.",
        access=ANY_TOKEN,
        query=PageQuery,
        answer=AssetsPage,
        problems=(errors.UnavailableError,),
    ),
    Operation(
        method="GET",
        path="/v1/assets/{asset}",
        endpoint=get_asset,
        summary="An asset: its decimals, its name, and how much of it is held by users and in packets.",
        access=ANY_TOKEN,
        answer=Asset,
        problems=(errors.UnknownAssetError, errors.UnavailableError),
    ),
    Operation(
        method="PUT",
        path="/v1/assets/{asset}",
        endpoint=put_asset,
        summary="Add an asset: points, coupons, cards. It can never be changed; the same again changes nothing.",
        access=Access(("admin",)),
        body=AssetBody,
        answer=Asset,
        problems=(errors.AssetExistsError, errors.UnavailableError),
    ),
    Operation(
        method="GET",
        path="/v1/wallets/{user_id}/holdings",
        endpoint=list_holdings,
        summary="A user's balances of all assets but money, in the order of codes.",
        access=ANY_TOKEN,
        query=PageQuery,
        answer=HoldingsPage,
        problems=(errors.UnavailableError,),
    ),
)
