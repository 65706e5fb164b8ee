"""The busiest minutes: claims per second, and when packets sold out.

The ledger has what was given. Who came too late, or again, or was refused, moved no money and is in no ledger: only the
metrics count them (hongbao_claims_total, hongbao_refusals_total).
"""

from datetime import datetime

from engine.analysis.finding import Cell, Finding, Said, found, nothing
from engine.analysis.scope import SQL, Reader
from engine.calendar.china_time import CHINA

_AROUND_MS = 300_000
_MINUTE_MS = 60_000
_FINE_MS, _FINE_SPAN_MS = 100, 30_000
_STEP_MS = 1_000


async def storm(reader: Reader) -> Finding:
    """Five minutes around the busiest one: in steps of a second, or of a tenth if all was over within 30 s."""
    name = "storm"
    columns = ("at", "seconds", "packets_per_s", "campaigns_per_s", "transfers_per_s", "sold_out_packets")
    busiest = await reader.claims(SQL["busiest"])
    if not busiest:
        return nothing(name, columns, zh="这些天没有人领取。", en="Nobody claimed anything in these days.")
    begin_ms, end_ms = await _span(reader, busiest[0]["minute"] * _MINUTE_MS)
    step_ms = _FINE_MS if end_ms - begin_ms <= _FINE_SPAN_MS else _STEP_MS
    begin_ms -= begin_ms % step_ms
    found_rows = {row["step"]: row for row in await reader.claims(SQL["storm"], begin_ms, end_ms, step_ms)}
    rows: list[tuple[Cell, ...]] = []
    peak, at_peak = 0, ""
    for step in range(-(-(end_ms - begin_ms) // step_ms)):
        row, at_ms = found_rows.get(step), begin_ms + step * step_ms
        given = [0, 0, 0, 0] if row is None else [row[of] for of in ("of_packets", "of_campaigns", "of_transfers")]
        per_s = [count * 1_000 // step_ms for count in given[:3]]
        if sum(per_s) > peak:
            peak, at_peak = sum(per_s), _clock(at_ms)
        rows.append((_clock(at_ms), step * step_ms / 1_000, *per_s, 0 if row is None else row["sold_out"]))
    claims = sum(row["of_packets"] + row["of_campaigns"] + row["of_transfers"] for row in found_rows.values())
    sold = sum(row["sold_out"] for row in found_rows.values())
    of_step = "" if step_ms == _STEP_MS else "（以十分之一秒计）"
    in_step = "" if step_ms == _STEP_MS else ", in its best tenth of a second"
    long_s = (end_ms - begin_ms) / 1_000
    return found(
        name,
        columns,
        rows,
        zh=Said(
            title=f"高峰时每秒领取 {peak:,} 份{of_step}",
            sentences=(
                f"{_day(begin_ms)} {_clock(begin_ms)} 起的 {long_s:,.1f} 秒里共领取 {claims:,} 份，{sold:,} "
                "个红包被抢光；"
                f"最多是 {at_peak} 的每秒 {peak:,} 份。",
                "账本只记成交：来晚了、重复点、被拒绝的请求没有动钱，只在指标里（hongbao_claims_total、hongbao_refusals_total）。",
            ),
        ),
        en=Said(
            title=f"The storm gave {peak:,} shares per second at its peak{in_step}",
            sentences=(
                f"In {long_s:,.1f} s from {_day(begin_ms)} {_clock(begin_ms)} on, {claims:,} shares were given and "
                f"{sold:,} packets "
                f"sold out; the most were {peak:,} per second at {at_peak}.",
                "The ledger knows what was given. Claims that were too late, repeated or refused moved no money: "
                "only metrics "
                "count them (hongbao_claims_total, hongbao_refusals_total).",
            ),
        ),
        units={"step_s": step_ms / 1_000, "day": _day(begin_ms), "begin": _clock(begin_ms)},
    )


async def _span(reader: Reader, minute_ms: int) -> tuple[int, int]:
    """From the first to the last claim of the minutes around the busiest one."""
    around = (minute_ms - _AROUND_MS, minute_ms + _MINUTE_MS + _AROUND_MS)
    (span,) = await reader.claims(SQL["storm_span"], *around)
    return span["first_ms"], span["last_ms"] + 1


def _clock(at_ms: int) -> str:
    at = datetime.fromtimestamp(at_ms / 1_000, CHINA)
    return f"{at:%H:%M:%S}" if at_ms % 1_000 == 0 else f"{at:%H:%M:%S}.{at_ms % 1_000 // 100}"


def _day(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1_000, CHINA):%Y-%m-%d}"
