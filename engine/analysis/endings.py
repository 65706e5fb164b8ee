"""How packets end: how soon they sell out, what dies unclaimed, and how soon the books are closed behind them."""

from collections.abc import Sequence
from datetime import date, timedelta

from engine.analysis.finding import Cell, Finding, Said, found, nothing
from engine.analysis.scope import SQL, Reader
from engine.analysis.sentences import days_en, days_zh, length_en, length_zh, percent
from engine.spreadsheets import Plain

_EPOCH = date(1970, 1, 1)
STEPS = 100
_FRACTIONS = [step / STEPS for step in range(1, STEPS + 1)]
_DAY_FRACTIONS = [0.5, 0.99]
SOLD_SIZES = ("1–10", "11–50", "51–100", "101–1,000", "> 1,000")
SIZES = ("1", "2–10", *SOLD_SIZES[1:])


async def sold_out(reader: Reader) -> Finding:
    """Time to sold-out by packet size. A curve ends at the part of the packets that sold out at all."""
    name, columns = "sold_out", ("shares", "packets", "sold_out", "part_of_packets", "seconds")
    groups = await reader.packets(SQL["sold_out"], _FRACTIONS)
    packets, sold = sum(group["packets"] for group in groups), sum(group["sold_out"] for group in groups)
    if not packets:
        return nothing(name, columns, zh="这些天没有红包结束。", en="No packet that was sent in these days has ended.")
    rows: list[tuple[Cell, ...]] = [
        (
            *(SOLD_SIZES[group["size"]], group["packets"], group["sold_out"]),
            round(fraction * group["sold_out"] / group["packets"], 6),
            took_ms / 1000,
        )
        for group in groups
        if group["sold_out"]
        for fraction, took_ms in zip(_FRACTIONS, group["quantiles_ms"], strict=True)
    ]
    if not rows:
        return nothing(
            name,
            columns,
            zh=f"{packets:,} 个红包已结束，没有一个被抢光。",
            en=f"None of the {packets:,} packets that have ended sold out.",
        )
    half = {group["size"]: group["quantiles_ms"][STEPS // 2 - 1] for group in groups if group["sold_out"]}
    sizes = "；".join(f"{SOLD_SIZES[size]} 份的一半在 {length_zh(ms)}内抢光" for size, ms in half.items())
    of_sizes = "; ".join(f"of {SOLD_SIZES[size]} shares, half within {length_en(ms)}" for size, ms in half.items())
    median_ms = _of_most(groups)
    return found(
        name,
        columns,
        rows,
        zh=Said(
            title=f"{percent(sold, packets)} 的红包被抢光，最常见的大小一半在 {length_zh(median_ms)}内",
            sentences=(
                f"{days_zh(reader.scope)}发出并已结束的红包 {packets:,} 个，抢光 {sold:,} 个。"
                f"被抢光的红包中：{sizes}。",
                "曲线停在被抢光的比例上：其余的红包到期时还有剩余。",
            ),
        ),
        en=Said(
            title=f"{percent(sold, packets)} of packets sold out, half of the commonest size within "
            f"{length_en(median_ms)}",
            sentences=(
                f"Of {packets:,} packets sent {days_en(reader.scope)} that have ended, {sold:,} sold out. "
                f"Of those that did: {of_sizes}.",
                "A curve stops at the part that sold out: the other packets expired with shares left.",
            ),
        ),
    )


def _of_most(groups: Sequence[object]) -> int:
    """The median of the size of which most packets sold out."""
    most = max(groups, key=lambda group: group["sold_out"])  # type: ignore[index]
    median_ms: int = most["quantiles_ms"][STEPS // 2 - 1]  # type: ignore[index]
    return median_ms


async def unclaimed(reader: Reader) -> Finding:
    """What part of packets, and of their money, dies unclaimed."""
    scope = reader.scope
    name = "unclaimed"
    columns = ("shares", "packets", "sold_out", "partly", "untouched", "retracted", "total", "returned")
    groups = await reader.packets(SQL["unclaimed"])
    if not groups:
        return nothing(name, columns, zh="这些天没有红包结束。", en="No packet that was sent in these days has ended.")
    rows: list[tuple[Cell, ...]] = [
        (
            SIZES[group["size"]],
            *(group[column] for column in columns[1:6]),
            scope.in_units(group["total_fen"]),
            scope.in_units(group["returned_fen"] or 0),
        )
        for group in groups
    ]
    packets = sum(group["packets"] for group in groups)
    partly, untouched = sum(group["partly"] for group in groups), sum(group["untouched"] for group in groups)
    total = sum(int(group["total_fen"]) for group in groups)
    returned = sum(int(group["returned_fen"] or 0) for group in groups)
    return found(
        name,
        columns,
        rows,
        zh=Said(
            title=f"{percent(returned, total)} 的金额无人领取，退回给发送者",
            sentences=(
                f"{days_zh(scope)}发出并已结束的红包 {packets:,} 个，共 {scope.amount(total)}："
                f"到期时 {partly:,} 个还有剩余，{untouched:,} 个一份也没有被领；退回 {scope.amount(returned)}。",
            ),
        ),
        en=Said(
            title=f"{percent(returned, total)} of the money died unclaimed and went back to its senders",
            sentences=(
                f"{packets:,} packets of {scope.amount(total)} sent {days_en(scope)} have ended. "
                f"{partly:,} expired with some shares left and {untouched:,} with all of them; "
                f"{scope.amount(returned)} went back.",
            ),
        ),
        units={"asset": scope.unit},
    )


async def settlement(reader: Reader) -> Finding:
    """How long after its end the ledger has closed a packet: the median and the slowest hundredth, day by day."""
    name, columns = "settlement", ("day", "packets", "waiting", "part_of_packets", "seconds")
    (whole,) = await reader.packets(SQL["settlement"], _FRACTIONS)
    days = await reader.packets(SQL["settlement_days"], _DAY_FRACTIONS)
    if whole["quantiles_ms"] is None:
        return nothing(
            name, columns, zh="这些天没有红包结清。", en="No packet that was sent in these days has settled."
        )
    rows: list[tuple[Cell, ...]] = [
        ("all", whole["packets"], whole["waiting"], fraction, ms / 1000)
        for fraction, ms in zip(_FRACTIONS, whole["quantiles_ms"], strict=True)
    ]
    rows += [
        (Plain(_EPOCH + timedelta(days=group["day"])), group["packets"], group["waiting"], fraction, ms / 1000)
        for group in days
        if group["quantiles_ms"] is not None
        for fraction, ms in zip(_DAY_FRACTIONS, group["quantiles_ms"], strict=True)
    ]
    settled = whole["packets"] - whole["waiting"]
    half_ms, most_ms, last_ms = (whole["quantiles_ms"][place - 1] for place in (50, 99, 100))
    return found(
        name,
        columns,
        rows,
        zh=Said(
            title=f"红包结束后，一半在 {length_zh(half_ms)}内结清，99% 在 {length_zh(most_ms)}内",
            sentences=(
                f"{days_zh(reader.scope)}发出的红包中 {settled:,} 个已结清，最慢 {length_zh(last_ms)}；"
                f"{whole['waiting']:,} 个已结束、尚未结清。",
                "结束按 Redis 的时钟，结清按 Postgres 的时钟；两者的差也算在内。",
            ),
        ),
        en=Said(
            title=f"Half of the packets settled within {length_en(half_ms)} of their end, 99% within "
            f"{length_en(most_ms)}",
            sentences=(
                f"{settled:,} packets sent {days_en(reader.scope)} have settled, the slowest after "
                f"{length_en(last_ms)}; "
                f"{whole['waiting']:,} have ended and not settled.",
                "The end is by Redis's clock and the settlement by Postgres's: what the clocks differ by is in it.",
            ),
        ),
    )
