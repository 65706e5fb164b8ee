"""A receipt as a page to print, in Chinese and English. Amounts have their asset's decimals. It loads nothing."""

import base64
import hashlib
from datetime import datetime

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from engine.calendar.china_time import CHINA
from engine.ledger.currency import unit_of
from engine.text import decimal
from engine.wallets.receipts import Receipt, ReceiptFacts

_TEMPLATES = Environment(
    loader=PackageLoader("api.resources"), autoescape=True, undefined=StrictUndefined, auto_reload=False, cache_size=8
)
_STYLE = Markup(_TEMPLATES.get_template("receipt.css").render())  # noqa: S704  # a file of ours, without a value in it
CONTENT_POLICY = (
    "default-src 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    + "'; frame-ancestors 'none'"
)
"""The browser uses only the page's own style, even if anything else ever gets into the page."""
_KINDS = {"send": "支付 paid", "claim": "领取 claimed", "refund": "退回 returned", "write_off": "核销 written off"}
_STATES = {"exhausted": "已领完 all claimed", "expired": "已过期 expired", "retracted": "已撤回 retracted"}
_PURPOSES = {"packet": "红包 red packet", "transfer": "转账 transfer", "campaign": "红包雨 packet rain"}
_AMOUNTS = (
    ("paid_fen", "支付金额", "Paid"),
    ("claimed_fen", "已领取", "Claimed"),
    ("returned_fen", "已退回", "Returned"),
    ("written_off_fen", "已核销", "Written off"),
    ("received_fen", "收款金额", "Received"),
)


def page_of(receipt: Receipt) -> bytes:
    """The page in UTF-8. Everything from users is escaped."""
    facts = receipt.facts
    transfers = [
        (
            moved.transfer_id,
            _KINDS.get(moved.kind, moved.kind),
            decimal(moved.amount_fen, facts.scale),
            _time(moved.at_ms),
        )
        for moved in facts.transfers
    ]
    template = _TEMPLATES.get_template("receipt.html")
    page = template.render(
        style=_STYLE,
        facts=facts,
        rows=_rows(facts),
        transfers=transfers,
        hash=receipt.hash,
        unit=unit_of(facts.currency),
    )
    return page.encode()


def _rows(facts: ReceiptFacts) -> list[tuple[str, str, str]]:
    """The rows: Chinese label, English label, value."""
    is_senders = facts.role == "sent"
    rows = [
        ("交易单号", "Transaction number", facts.number),
        ("业务类型", "Type", _PURPOSES[facts.purpose]),
        ("付款方", "Payer", facts.sender),
        ("收款方", "Payee", facts.recipient),
        ("祝福语", "Greeting", facts.greeting or None),
        ("支付时间", "Paid at", _time(facts.at_ms) if is_senders else None),
        ("到账时间", "Received at", None if is_senders else _time(facts.at_ms)),
        *(
            (f"{chinese}({unit_of(facts.currency)})", f"{english} ({facts.currency})", _amount(facts, name))
            for name, chinese, english in _AMOUNTS
        ),
        ("领取份数", "Shares claimed", f"{facts.claimed_count} / {facts.count}" if is_senders else None),
        ("状态", "State", facts.state and _STATES.get(facts.state, facts.state)),
        ("结束时间", "Ended at", facts.ended_at_ms and _time(facts.ended_at_ms)),
        ("结清时间", "Settled at", facts.settled_at_ms and _time(facts.settled_at_ms)),
    ]
    return [(chinese, english, value) for chinese, english, value in rows if isinstance(value, str)]


def _amount(facts: ReceiptFacts, name: str) -> str | None:
    amount: int | None = getattr(facts, name)
    return None if amount is None else decimal(amount, facts.scale)


def _time(at_ms: int) -> str:
    """China's time, to the second."""
    return f"{datetime.fromtimestamp(at_ms // 1000, CHINA):%Y-%m-%d %H:%M:%S} +08:00"
