"""When people send, claim and get back: by hour, on festivals, and which amounts come back."""

from collections.abc import Iterable
from datetime import date, timedelta

from engine.analysis.finding import Cell, Finding, Said, found, nothing
from engine.analysis.scope import SQL, Reader, Scope
from engine.analysis.sentences import days_en, days_zh, percent
from engine.calendar.occasions import Occasion, occasions_of

_EPOCH = date(1970, 1, 1)
HOURS = 24
ORDINARY = "ordinary"
OCCASIONS_ZH = {
    ORDINARY: "平日",
    Occasion.SPRING_FESTIVAL_EVE: "除夕",
    Occasion.SPRING_FESTIVAL: "春节",
    Occasion.LANTERN_FESTIVAL: "元宵节",
    Occasion.DRAGON_BOAT_FESTIVAL: "端午节",
    Occasion.QIXI: "七夕",
    Occasion.MID_AUTUMN_FESTIVAL: "中秋节",
    Occasion.NEW_YEAR: "元旦",
    Occasion.VALENTINES_DAY: "情人节",
    Occasion.MAY_20: "520",
    Occasion.NATIONAL_DAY: "国庆节",
}
OCCASIONS_EN = {
    ORDINARY: "ordinary days",
    Occasion.SPRING_FESTIVAL_EVE: "Spring Festival's eve",
    Occasion.SPRING_FESTIVAL: "Spring Festival",
    Occasion.LANTERN_FESTIVAL: "Lantern Festival",
    Occasion.DRAGON_BOAT_FESTIVAL: "Dragon Boat Festival",
    Occasion.QIXI: "Qixi",
    Occasion.MID_AUTUMN_FESTIVAL: "Mid-Autumn Festival",
    Occasion.NEW_YEAR: "New Year",
    Occasion.VALENTINES_DAY: "14 February",
    Occasion.MAY_20: "20 May",
    Occasion.NATIONAL_DAY: "National Day",
}


async def activity(reader: Reader) -> Finding:
    """Packets sent and shares claimed on a mean day: by hour, and by festival."""
    scope = reader.scope
    name, columns = "activity", ("by", "of", "days", "packets", "claims", "packets_a_day", "claims_a_day")
    packets = {(row["day"], row["hour"]): row["packets"] for row in await reader.packets(SQL["activity_sends"])}
    claims = {(row["day"], row["hour"]): row["claims"] for row in await reader.claims(SQL["activity_claims"])}
    if not packets and not claims:
        return nothing(name, columns, zh="这些天没有人发红包，也没有人领。", en="Nobody sent or claimed in these days.")
    rows: list[tuple[Cell, ...]] = []
    for hour in range(HOURS):
        sent = sum(count for (_, at), count in packets.items() if at == hour)
        taken = sum(count for (_, at), count in claims.items() if at == hour)
        rows.append(("hour", f"{hour:02d}", *_a_day(scope.days, sent, taken)))
    days = _occasions(scope)
    for occasion, of_day in days.items():
        sent = sum(count for (day, _), count in packets.items() if day in of_day)
        taken = sum(count for (day, _), count in claims.items() if day in of_day)
        rows.append(("occasion", str(occasion), *_a_day(len(of_day), sent, taken)))
    hour, most = max(
        ((hour, sum(count for (_, at), count in claims.items() if at == hour)) for hour in range(HOURS)),
        key=lambda found: found[1],
    )
    total, sent = sum(claims.values()), sum(packets.values())
    best_zh, best_en = _best(rows)
    return found(
        name,
        columns,
        rows,
        zh=Said(
            title=f"{hour} 点最热闹：{percent(most, total or 1)} 的领取在这一小时",
            sentences=(
                f"{days_zh(scope)}（{scope.days} 天）共发红包 {sent:,} 个，领取 {total:,} 份。最热闹的是 {hour} 点，"
                f"领取 {most:,} 份。{best_zh}",
                "同属两个节日的日子算作农历的那个。",
            ),
        ),
        en=Said(
            title=f"{hour:02d}:00 is the busiest hour: {percent(most, total or 1)} of all claims",
            sentences=(
                f"In {scope.days} {'day' if scope.days == 1 else 'days'} ({days_en(scope)}), {sent:,} packets were "
                f"sent and {total:,} "
                f"shares claimed. The busiest hour begins at {hour:02d}:00 in China, with {most:,} claims.{best_en}",
                "A day of two festivals counts as that of the Chinese calendar.",
            ),
        ),
    )


def _a_day(days: int, packets: int, claims: int) -> tuple[int, int, int, float, float]:
    return days, packets, claims, round(packets / days, 3), round(claims / days, 3)


def _occasions(scope: Scope) -> dict[str, set[int]]:
    """The days of each festival among these days, and those of none, counted from 1970."""
    days: dict[str, set[int]] = {}
    for place in range(scope.days):
        day = scope.first + timedelta(days=place)
        occasion = next(iter(occasions_of(day)), ORDINARY)
        days.setdefault(str(occasion), set()).add((day - _EPOCH).days)
    order = [str(occasion) for occasion in OCCASIONS_ZH]
    return dict(sorted(days.items(), key=lambda found: order.index(found[0])))


def _best(rows: Iterable[tuple[Cell, ...]]) -> tuple[str, str]:
    """What festivals do, if there are some and ordinary days as well."""
    a_day = {str(row[1]): float(str(row[6])) for row in rows if row[0] == "occasion"}
    usual = a_day.pop(ORDINARY, 0.0)
    if not a_day or not usual:
        return "", ""
    best = max(a_day, key=lambda name: a_day[name])
    times = a_day[best] / usual
    return (
        f"{OCCASIONS_ZH[best]}每天的领取是平日的 {times:.1f} 倍。",
        f" On {OCCASIONS_EN[best]}, a day had {times:.1f} times the claims of an ordinary one.",
    )


async def refunds(reader: Reader) -> Finding:
    """What went back to senders, by hour and by amount."""
    scope = reader.scope
    name, columns = "refunds", ("hour", "amount_from", "amount_below", "refunds", "amount")
    groups = {(row["hour"], row["size"]): row for row in await reader.claims(SQL["refunds"])}
    if not groups:
        return nothing(name, columns, zh="这些天没有退款。", en="Nothing was refunded in these days.")
    bounds = [0, *(scope.in_units(10**power) for power in (2, 3, 4, 5)), None]
    rows: list[tuple[Cell, ...]] = []
    for hour in range(HOURS):
        for size in range(5):
            row = groups.get((hour, size))
            count, fen = (0, 0) if row is None else (row["refunds"], row["fen"])
            rows.append((hour, bounds[size], bounds[size + 1], count, scope.in_units(fen)))
    count, fen = sum(row["refunds"] for row in groups.values()), sum(int(row["fen"]) for row in groups.values())
    by_hour = [sum(int(str(row[3])) for row in rows if row[0] == hour) for hour in range(HOURS)]
    hour = by_hour.index(max(by_hour))
    small = sum(int(str(row[3])) for row in rows if row[2] is not None and float(str(row[2])) <= scope.in_units(1_000))
    bound = scope.amount(1_000)
    return found(
        name,
        columns,
        rows,
        zh=Said(
            title=f"退回 {scope.amount(fen)}，{hour} 点最多",
            sentences=(
                f"{days_zh(scope)}共退款 {count:,} 笔，{scope.amount(fen)}；{percent(small, count)} 的退款不到 "
                f"{bound}，"
                f"{percent(by_hour[hour], count)} 发生在 {hour} 点。",
            ),
        ),
        en=Said(
            title=f"{scope.amount(fen)} went back to senders, most often at {hour:02d}:00",
            sentences=(
                f"{count:,} refunds of {scope.amount(fen)} in all {days_en(scope)}: {percent(small, count)} of them "
                f"below {bound}, "
                f"{percent(by_hour[hour], count)} between {hour:02d}:00 and {hour:02d}:59 in China.",
            ),
        ),
        units={"asset": scope.unit},
    )
