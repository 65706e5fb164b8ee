"""对账单: a wallet's movements in some days as CSV, with the closing totals, in the columns of WeChat Pay's fund bill.

Every value has a grave accent before it, as there: spreadsheets then neither round numbers nor run what looks like a
formula. Amounts are in yuan with two decimals, times are China's.
"""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import asyncpg

from engine.calendar.china_time import CHINA, begin_ms
from engine.errors import FieldProblem, InvalidFieldsError
from engine.ids import is_packet_number
from engine.ledger.database import ledger_errors
from engine.queries import load
from engine.records import Purpose

SQL = load("statement")
DAYS_MAX, ROWS_MAX = 31, 10_000
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
}
_TRANSFERS = {
    "send": ("转账", "转出"),
    "claim": ("转账", "转入"),
    "refund": ("转账", "转账退回"),
}


class Movement(NamedTuple):
    """One row. ``amount_fen`` is negative when it left; ``balance_fen`` is what the wallet held after it.

    ``purpose``: of the packet, if it is of one.
    """

    transfer_id: int
    kind: str
    amount_fen: int
    at_ms: int
    other: int
    balance_fen: int
    purpose: str = Purpose.PACKET


class Statement(NamedTuple):
    """Movements from the beginning of ``first`` to the end of ``last``, in the order of their times."""

    user_id: str
    opening_fen: int
    movements: Sequence[Movement]

    def as_csv(self) -> bytes:
        """The file, in UTF-8, with a line feed after each line."""
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
        lines.writerow(COLUMNS)
        lines.writerows([f"`{value}" for value in _row(movement)] for movement in self.movements)
        incomes = [movement.amount_fen for movement in self.movements if movement.amount_fen > 0]
        expenses = [-movement.amount_fen for movement in self.movements if movement.amount_fen < 0]
        lines.writerow(TOTALS)
        totals = (len(self.movements), len(incomes), yuan(sum(incomes)), len(expenses), yuan(sum(expenses)))
        lines.writerow([f"`{value}" for value in totals])
        return text.getvalue().encode()


async def read(pool: asyncpg.Pool, user_id: str, first: date, last: date) -> Statement:
    """A wallet's statement of the days ``first`` to ``last``, China's. Empty for a wallet nobody has paid yet.

    Raises InvalidFieldsError for days in no order, too many, or with too many movements; UnavailableError.
    """
    if last < first:
        raise InvalidFieldsError([FieldProblem("to", "must not be before from")])
    if (last - first).days >= DAYS_MAX:
        raise InvalidFieldsError([FieldProblem("to", f"must be less than {DAYS_MAX} days after from")])
    begins_ms, ends_ms = begin_ms(first), begin_ms(last + timedelta(days=1))
    with ledger_errors():
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            opening_fen = int(await connection.fetchval(SQL["opening"], user_id, begins_ms))
            rows = await connection.fetch(SQL["movements"], user_id, begins_ms, ends_ms, ROWS_MAX + 1)
    if len(rows) > ROWS_MAX:
        most = f"must be earlier: these days have more than {ROWS_MAX} ledger entries"
        raise InvalidFieldsError([FieldProblem("to", most)])
    movements, balance_fen = [], opening_fen
    for row in rows:
        balance_fen += row["amount_fen"]
        movements.append(Movement(**row, balance_fen=balance_fen))
    return Statement(user_id, opening_fen, movements)


def yuan(amount_fen: int) -> str:
    """An amount as the bill writes it: 1234 fen are 12.34."""
    return f"{'-' if amount_fen < 0 else ''}{abs(amount_fen) // 100}.{abs(amount_fen) % 100:02d}"


def _row(movement: Movement) -> tuple[object, ...]:
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
        yuan(abs(movement.amount_fen)),
        yuan(movement.balance_fen),
        "hongbao",
        "",
        movement.transfer_id,
    )
