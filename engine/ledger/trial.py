"""Checks that Postgres lets this process write what it must, without writing anything."""

import asyncpg

from engine.ledger.database import Connection
from engine.queries import load

SQL = load("trial")
INSERTED = (
    *("accounts", "alerts", "approvals", "arrival_delays", "assets", "batches", "day_totals", "debts", "disputes"),
    *(
        "audit_runs",
        "campaign_buckets",
        "campaign_grants",
        "campaign_prizes",
        "campaign_waves",
        "campaigns",
        "coupon_batches",
        "coupon_codes",
        "coupon_free",
        "coupon_parts",
        "coupon_ranges",
        "coupons",
        "displays",
        "card_completions",
        "card_grants",
        "card_kinds",
        "card_offers",
        "card_sets",
        "card_shares",
        "day_movements",
        "entries_aside",
        "freeze_changes",
        "freezes",
        "fundraiser_gifts",
        "fundraiser_matches",
        "fundraisers",
        "idempotency",
        "labels",
        "lanes",
        "ledger_currency",
        "limits_reached",
        "notes",
        "operator_links",
        "operator_log",
        "operator_sessions",
        "operators",
        "packets",
        "payment_passwords",
        "places",
        "reconciliation_reasons",
        "reconciliations",
    ),
    *("profiles", "quarantine", "recoveries", "retractions", "sandbox_payouts", "transfer_hashes", "transfers"),
    *("wechatpay_calls", "wechatpay_merchants", "wechatpay_nonces", "wechatpay_orders", "wechatpay_platform"),
    *("wechatpay_spans", "withdrawals"),
)
UPDATED = (
    *(
        "accounts",
        "alerts",
        "approvals",
        "campaign_grants",
        "campaign_waves",
        "campaigns",
        "coupon_batches",
        "coupon_free",
        "coupons",
        "card_offers",
        "card_sets",
        "card_shares",
        "day_movements",
        "day_movements_counted",
        "day_totals",
        "displays",
        "disputes",
        "freezes",
        "fundraiser_gifts",
        "fundraiser_matches",
        "fundraisers",
        "labels",
        "lanes",
        "operator_links",
        "operator_log_head",
        "operator_sessions",
        "operators",
        "packets",
        "payment_passwords",
    ),
    *("profiles", "quarantine", "recoveries", "retractions"),
    *("wechatpay_merchants", "wechatpay_orders", "wechatpay_platform", "wechatpay_spans", "withdrawals"),
)
DELETED = (
    *("coupon_free", "day_totals", "displays", "idempotency", "limits_reached", "operator_links", "places"),
    *("wechatpay_calls", "wechatpay_nonces", "wechatpay_spans"),
)
DRAWN = ("alert_drafts", "transfer_ids", "wallet_ids")
"""The tables that engine/sql changes, by the kind of change, and their sequences. A test compares both."""


async def why_read_only(source: asyncpg.Pool | Connection) -> str | None:
    """Why nothing can be written and what to do, in one sentence; None if it can. Raises asyncpg's errors."""
    (state,) = await source.fetch(SQL["state"])
    if state["is_replica"]:
        return "Postgres is a replica, which takes no writes: let HONGBAO_DATABASE_URL name the primary."
    if state["is_read_only"]:
        return "Postgres takes no writes: set default_transaction_read_only off, or name another server or user."
    return None


async def why_not_written(source: asyncpg.Pool | Connection) -> str | None:
    """The same, and which permissions on the ledger's tables the user lacks."""
    if (why := await why_read_only(source)) is not None:
        return why
    lacks = [row["lack"] for row in await source.fetch(SQL["lacks"], INSERTED, UPDATED, DELETED, DRAWN)]
    if not lacks:
        return None
    user = await source.fetchval("SELECT current_user")
    return f"Postgres does not let the user {user} {', '.join(lacks)}: grant it, or name the ledger's owner."
