"""How sending and receiving are spread over people: Lorenz curves, and their Gini coefficients."""

from collections.abc import Sequence

import asyncpg

from engine.analysis.finding import Cell, Finding, Said, found, nothing
from engine.analysis.scope import SQL, Reader
from engine.analysis.sentences import days_en, days_zh, percent

SENDING, RECEIVING = "sending", "receiving"


async def concentration(reader: Reader) -> Finding:
    """Of each hundredth of the users, the poorest first: what part of it all those up to it have."""
    name, columns = "concentration", ("side", "users", "gini", "part_of_users", "part_of_amount")
    sending, receiving = await reader.packets(SQL["sending"]), await reader.claims(SQL["receiving"])
    if not sending and not receiving:
        return nothing(
            name, columns, zh="这些天没有人发红包，也没有人领。", en="Nobody sent or received in these days."
        )
    rows: list[tuple[Cell, ...]] = []
    for side, points in ((SENDING, sending), (RECEIVING, receiving)):
        rows += [(side, point["users"], round(point["gini"], 6), *_point(point)) for point in points]
    of_zh = [_zh("发", sending), _zh("收", receiving)]
    of_en = [_en("senders", "sent", sending), _en("receivers", "received", receiving)]
    ginis = [round(points[0]["gini"], 2) if points else None for points in (sending, receiving)]
    return found(
        name,
        columns,
        rows,
        zh=Said(
            title="、".join(
                f"{what}的基尼系数 {gini:.2f}"
                for what, gini in zip(("发", "收"), ginis, strict=True)
                if gini is not None
            ),
            sentences=(
                f"{days_zh(reader.scope)}：" + "；".join(text for text in of_zh if text) + "。",
                "基尼系数 0 是人人一样多，接近 1 是几乎全归一人。",
            ),
        ),
        en=Said(
            title="Gini coefficient: "
            + ", ".join(
                f"{gini:.2f} of {what}"
                for what, gini in zip((SENDING, RECEIVING), ginis, strict=True)
                if gini is not None
            ),
            sentences=(
                f"{days_en(reader.scope).capitalize()}: " + "; ".join(text for text in of_en if text) + ".",
                "A Gini coefficient of 0 means that all have the same, one near 1 that one has nearly all.",
            ),
        ),
    )


def _point(point: asyncpg.Record) -> tuple[float, float]:
    return round(point["place"] / point["users"], 6), round(point["part"], 6)


def _top(points: Sequence[asyncpg.Record]) -> tuple[int, float]:
    """The users of the top tenth, and their part. With fewer than ten users it is the one who has most."""
    users = points[0]["users"]
    below = [point for point in points if point["place"] <= users - max(1, users // 10)]
    return users - (below[-1]["place"] if below else 0), 1 - (below[-1]["part"] if below else 0.0)


def _zh(verb: str, points: Sequence[asyncpg.Record]) -> str:
    if not points:
        return ""
    top, part = _top(points)
    return f"{points[0]['users']:,} 人{verb}红包，{verb}得最多的 {top:,} 人占 {percent(part, 1)}"


def _en(who: str, verb: str, points: Sequence[asyncpg.Record]) -> str:
    if not points:
        return ""
    top, part = _top(points)
    return f"of {points[0]['users']:,} {who}, the top {top:,} {verb} {percent(part, 1)} of it"
