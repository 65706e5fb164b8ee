"""对账单: a wallet's entries over some days as CSV, with closing totals, in the columns of WeChat Pay's fund bill.

As there, every value starts with a grave accent, so that spreadsheets neither round numbers nor run formulas. Amounts
are in yuan, or in another asset, with its decimals. Times are China's.
"""

import codecs
import csv
import io
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import asyncpg

from engine.calendar.china_time import CHINA, begin_ms, today
from engine.errors import FieldProblem, InvalidFieldsError
from engine.ids import is_packet_number
from engine.ledger.currency import SCALE, unit_of
from engine.ledger.database import Connection, ledger_errors
from engine.paging import NEWEST
from engine.queries import load
from engine.records import Purpose
from engine.text import decimal
from engine.wallets.assets import Known
from engine.wallets.closing import Closing

SQL = load("statement")
DAYS_MAX = 31
PAGE = 500
"""How many entries are read, written and sent at once. This blocks the process for a few milliseconds."""
COLUMNS = (
    *("记账时间", "业务单号", "资金流水单号", "业务名称", "业务类型", "收支类型"),
    *("收支金额(元)", "账户结余(元)", "资金变更提交申请人", "备注", "业务凭证号"),
)
TOTALS = ("资金流水总笔数", "收入笔数", "收入金额", "支出笔数", "支出金额")
_KINDS = {
    "deposit": ("充值", "充值"),
    "send": ("红包", "发出红包"),
    "claim": ("红包", "领取红包"),
    "refund": ("红包", "红包退回"),
    "withdrawal": ("提现", "提现"),
    "withdrawal_return": ("提现", "提现退回"),
    "correction": ("申诉", "纠错"),
    "issue": ("发放", "发放"),
    "gift": ("募捐", "捐款"),
    "gift_return": ("募捐", "捐款退回"),
    "match_budget": ("募捐", "配捐"),
    "match_return": ("募捐", "配捐退回"),
    "fund_payout": ("募捐", "募捐到账"),
    "redeem": ("优惠券", "核销"),
    "coupon_void": ("优惠券", "作废"),
    "coupon_expire": ("优惠券", "过期"),
    "coupon_transfer": ("优惠券", "转赠"),
    "card_reserve": ("集卡", "预留发卡"),
    "card_grant": ("集卡", "获得卡片"),
    "card_gift": ("集卡", "赠送"),
    "card_offer": ("集卡", "换卡申请"),
    "card_exchange": ("集卡", "换得卡片"),
    "card_return": ("集卡", "换卡退回"),
    "card_spend": ("集卡", "合成"),
    "pool_fund": ("奖池", "注入奖池"),
    "pool_share": ("奖池", "瓜分奖池"),
    "pool_return": ("奖池", "奖池退回"),
}
_TRANSFERS = {
    "send": ("转账", "转出"),
    "claim": ("转账", "转入"),
    "refund": ("转账", "转账退回"),
}


class Movement(NamedTuple):
    """One row. ``amount_fen`` is negative if money left. ``balance_fen``: the wallet's balance afterwards.

    ``at_ms``: when it was booked, never before the row above. ``purpose``: the packet's, if there is one.
    """

    transfer_id: int
    kind: str
    amount_fen: int
    at_ms: int
    other: int
    balance_fen: int
    purpose: str = Purpose.PACKET


class Range(NamedTuple):
    """A wallet's entries between two numbers, without these."""

    account_id: int
    after: int
    before: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A wallet's days ``first`` to ``last``, in the order in which its entries were booked.

    ``is_provisional``: the last day is not over. ``entries`` None: the wallet has none in these days.
    """

    user_id: str
    first: date
    last: date
    is_provisional: bool
    asset: Known
    opening_fen: int
    entries: Range | None
    pool: asyncpg.Pool

    @property
    def file_name(self) -> str:
        """The file's name: the user, the asset if it is not money, the days, and whether it is provisional."""
        user = self.user_id.replace(":", "_")  # Windows allows no colon in a file name
        asset = "" if self.asset.code is None else f"{self.asset.code}_"
        return f"statement_{user}_{asset}{self.first}_{self.last}{'_provisional' if self.is_provisional else ''}.csv"

    async def pages(self) -> AsyncIterator[list[Movement]]:
        """The entries, page by page. It holds no connection between two pages.

        A later reading returns the same, because no entry is ever added among them. Raises UnavailableError.
        """
        if self.entries is None:
            return
        account_id, after, before = self.entries
        balance_fen, at_ms = self.opening_fen, 0
        while True:
            with ledger_errors():
                rows = await self.pool.fetch(SQL["movements"], account_id, after, before, PAGE)
            page = []
            for row in rows:
                balance_fen, at_ms = balance_fen + row["amount_fen"], max(at_ms, row["at_ms"])
                page.append(Movement(**{**row, "at_ms": at_ms}, balance_fen=balance_fen))
            if page:
                yield page
            if len(page) < PAGE:
                return
            after = page[-1].transfer_id

    async def as_csv(self) -> AsyncIterator[bytes]:
        """The file, page by page: UTF-8 with a byte order mark, and a carriage return before each line feed.

        WeChat Pay's bill has both, and without them Excel cannot read Chinese. Raises UnavailableError.
        """
        text, scale = codecs.BOM_UTF8 + _lines([columns_of(self.asset.asset)]), self.asset.scale
        incomes = expenses = income_fen = expense_fen = 0
        async for page in self.pages():
            yield text + _lines([_quoted(_row(movement, scale)) for movement in page])
            text = b""
            came_in = [movement.amount_fen for movement in page if movement.amount_fen > 0]
            incomes, income_fen = incomes + len(came_in), income_fen + sum(came_in)
            expenses += len(page) - len(came_in)
            expense_fen += sum(came_in) - sum(movement.amount_fen for movement in page)
        totals = (incomes + expenses, incomes, decimal(income_fen, scale), expenses, decimal(expense_fen, scale))
        yield text + _lines([TOTALS, _quoted(totals)])


class Statements:
    """Use cases of statements."""

    def __init__(self, pool: asyncpg.Pool, closing: Closing, currency: str) -> None:
        self._pool, self._closing, self._currency = pool, closing, currency

    async def of(self, user_id: str, first: date, last: date, known: Known | None = None) -> Statement:
        """A wallet's statement of the days ``first`` to ``last`` in China. Empty if nobody has paid the wallet yet.

        ``known``: the asset (None: the ledger's currency).
        Raises InvalidFieldsError if the days are in the wrong order or too many, DayNotClosedError if a day is over but
        the ledger lacks some of it, and UnavailableError, also if Redis does not answer.
        """
        if last < first:
            raise InvalidFieldsError([FieldProblem("to", "must not be before from")])
        if (last - first).days >= DAYS_MAX:
            raise InvalidFieldsError([FieldProblem("to", f"must be less than {DAYS_MAX} days after from")])
        is_provisional = last >= today()
        if not is_provisional:
            await self._closing.check(last)
        days, asset = (begin_ms(first), begin_ms(last + timedelta(days=1))), known or Known(self._currency, SCALE)
        with ledger_errors():
            async with (
                self._pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                account_id = await connection.fetchval(SQL["account"], user_id, asset.code)
                opening_fen, entries = await bounds(connection, account_id, *days)
        return Statement(
            user_id=user_id,
            first=first,
            last=last,
            is_provisional=is_provisional,
            asset=asset,
            opening_fen=opening_fen,
            entries=entries,
            pool=self._pool,
        )


async def bounds(
    connection: Connection, account_id: int | None, begins_ms: int, ends_ms: int
) -> tuple[int, Range | None]:
    """A wallet's balance before some days, and its entries of these days. Raises asyncpg's errors.

    ``account_id``: the account (None: there is none yet).

    A wallet's day begins with the first booked entry that has the day's time or a later one. So each entry belongs to
    one day, and the days have no gaps. If a claim from before midnight is booked after an entry of the new day, it
    belongs to the new day.
    """
    if account_id is None:
        return 0, None
    begin = await connection.fetchval(SQL["border"], account_id, begins_ms)
    opening_fen = int(await connection.fetchval(SQL["opening"], account_id, NEWEST if begin is None else begin))
    if begin is None:
        return opening_fen, None
    end = await connection.fetchval(SQL["border"], account_id, ends_ms)
    if end is None:
        end = await connection.fetchval(SQL["last"], account_id) + 1
    return opening_fen, Range(account_id, begin - 1, end)


def columns_of(currency: str) -> list[str]:
    """The names of the columns, with the currency."""
    return [name.replace("(元)", f"({unit_of(currency)})") for name in COLUMNS]


def _lines(lines: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n", quoting=csv.QUOTE_MINIMAL).writerows(lines)
    return text.getvalue().encode()


def _quoted(values: Iterable[object]) -> list[str]:
    return [f"`{value}" for value in values]


def _row(movement: Movement, scale: int) -> tuple[object, ...]:
    at = datetime.fromtimestamp(movement.at_ms / 1000, UTC).astimezone(CHINA)
    packet_id = str(movement.other) if is_packet_number(str(movement.other)) else ""
    name, kind = _KINDS.get(movement.kind, (movement.kind, movement.kind))
    if movement.purpose == Purpose.TRANSFER:
        name, kind = _TRANSFERS.get(movement.kind, (name, kind))
    return (
        f"{at:%Y-%m-%d %H:%M:%S}",
        packet_id,
        movement.transfer_id,
        name,
        kind,
        "收入" if movement.amount_fen > 0 else "支出",
        decimal(abs(movement.amount_fen), scale),
        decimal(movement.balance_fen, scale),
        "hongbao",
        "",
        movement.transfer_id,
    )
