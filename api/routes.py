"""The route table of all resources. The application and the documents are made from it."""

from collections.abc import Sequence

from api.dispatch import Operation
from api.resources import (
    accounts,
    assets,
    campaign_wins,
    campaigns,
    card_offers,
    card_sets,
    coupons,
    displays,
    disputes,
    fundraisers,
    packets,
    receipts,
    retraction,
    status,
    suggestions,
    transfers,
    wallets,
    wechatpay,
    withdrawals,
)

RESOURCES: dict[str, Sequence[Operation]] = {
    "Packets and claims": packets.ROUTES,
    "Retraction 撤回": retraction.ROUTES,
    "Transfers 转账": transfers.ROUTES,
    "Wallets and records": wallets.ROUTES,
    "Display names": displays.ROUTES,
    "Campaigns 红包雨": (*campaigns.ROUTES, *campaign_wins.ROUTES),
    "Fund-raising 募捐": fundraisers.ROUTES,
    "Coupons 优惠券": coupons.ROUTES,
    "Cards to collect 集五福": (*card_sets.ROUTES, *card_offers.ROUTES),
    "Assets": assets.ROUTES,
    "Suggestions 建议": suggestions.ROUTES,
    "Payment passwords 支付密码 and withdrawals 提现": withdrawals.ROUTES,
    "Receipts 电子回单": receipts.ROUTES,
    "Disputes 申诉": disputes.ROUTES,
    "Accounts, limits and alerts": accounts.ROUTES,
    "Merchants of WeChat Pay's calls": wechatpay.ROUTES,
    "Probes, metrics and the contract": status.ROUTES,
}
"""Routes by their heading in docs/api.md. The path of a claim is first, because routes are tried in this order."""
ROUTES = tuple(row for rows in RESOURCES.values() for row in rows)
