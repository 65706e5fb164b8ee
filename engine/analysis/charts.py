"""The charts, one function each: from a finding's table to marks on a canvas.

Colours are Okabe and Ito's, which people with any kind of colour vision can tell apart. Lines that mean different
things differ in their dashes as well.
"""

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator, PercentFormatter

from engine.analysis.concentration import RECEIVING, SENDING
from engine.analysis.endings import SOLD_SIZES
from engine.analysis.finding import Finding, Language
from engine.analysis.hours import HOURS, OCCASIONS_EN, OCCASIONS_ZH

RED, BLUE, GREEN, ORANGE, SKY, PURPLE = "#D55E00", "#0072B2", "#009E73", "#E69F00", "#56B4E9", "#CC79A7"
GREY, PALE = "#4d4d4d", "#d9d9d9"
_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
_WIDTH = {Language.EN: 68, Language.ZH: 38}
_DAYS_DRAWN = 2


class Words:
    """Chooses the text of the picture's language."""

    def __init__(self, language: Language) -> None:
        self.language = language

    def __call__(self, zh: str, en: str) -> str:
        """The text in the language."""
        return zh if self.language is Language.ZH else en

    def duration(self, seconds: float, _place: int | None = None) -> str:
        """A tick on an axis of time."""
        if seconds < 0.9995:
            return self(f"{seconds * 1000:.3g} 毫秒", f"{seconds * 1000:.3g} ms")
        for size, zh, en in ((86_400, "天", "d"), (3_600, "小时", "h"), (60, "分", "min")):
            if seconds >= size:
                return self(f"{seconds / size:.3g} {zh}", f"{seconds / size:.3g} {en}")
        return self(f"{seconds:.3g} 秒", f"{seconds:.3g} s")


def wrapped(text: str, language: Language) -> str:
    """Text in lines that fit the picture."""
    width = _WIDTH[language]
    if language is Language.EN:
        return textwrap.fill(text, width)
    return "\n".join(text[begin : begin + width] for begin in range(0, len(text), width))


_TICKS_S = (0.001, 0.01, 0.1, 1, 10, 60, 600, 3_600, 21_600, 86_400, 604_800, 2_592_000)


def _time_axis(axes: Axes, seconds: Sequence[float], words: Words, *, is_y: bool = False) -> None:
    """A logarithmic axis with the lengths of time that people say."""
    low, high = max(min(seconds), 0.0005) * 0.8, max(*seconds, 0.002) * 1.25
    axis: Axis = axes.yaxis if is_y else axes.xaxis
    if is_y:
        axes.set_yscale("log")
        axes.set_ylim(low, high)
    else:
        axes.set_xscale("log")
        axes.set_xlim(low, high)
    within = [tick for tick in _TICKS_S if low <= tick <= high]
    axis.set_major_locator(FixedLocator(within if len(within) > 1 else [low / 0.8, high / 1.25]))
    axis.set_major_formatter(FuncFormatter(words.duration))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _subtitle(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=9, color=GREY)


def _storm(figure: Figure, finding: Finding, words: Words) -> None:
    given, sold = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    seconds, step = np.array(finding.numbers("seconds")), float(str(finding.units["step_s"]))
    base = np.zeros(len(seconds))
    for column, colour, zh, en in (
        ("packets_per_s", RED, "红包", "packets"),
        ("campaigns_per_s", BLUE, "红包雨", "campaigns"),
        ("transfers_per_s", GREEN, "转账", "transfers"),
    ):
        height = np.array(finding.numbers(column))
        if height.any():
            given.bar(seconds, height, step, bottom=base, align="edge", color=colour, label=words(zh, en), linewidth=0)
            base += height
    unit = words("每秒领取的份数", "shares claimed per second")
    every = words(f"每 {step:g} 秒一格", f"in steps of {step:g} s")
    _subtitle(given, f"{unit}，{every}" if words.language is Language.ZH else f"{unit}, {every}")
    given.yaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:,.0f}"))
    if len(given.containers) > 1:
        given.legend(loc="upper right")
    sold.bar(seconds, finding.numbers("sold_out_packets"), step, align="edge", color=GREY, linewidth=0)
    _subtitle(sold, words("每格被抢光的红包", "packets sold out per step"))
    sold.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    begin = f"{finding.units['day']} {finding.units['begin']}"
    sold.set_xlabel(words(f"自 {begin}（北京时间）起的秒数", f"seconds from {begin} in China"))
    sold.set_xlim(0, seconds[-1] + step)


def _sold_out(figure: Figure, finding: Finding, words: Words) -> None:
    axes = figure.subplots()
    sizes, parts = finding.column("shares"), np.array(finding.numbers("part_of_packets"))
    seconds = np.array(finding.numbers("seconds"))
    longest = float(seconds.max()) * 1.25
    for place, (size, colour) in enumerate(zip(SOLD_SIZES, (RED, BLUE, GREEN, ORANGE, PURPLE), strict=True)):
        own = [index for index, of in enumerate(sizes) if of == size]
        if own:
            n = int(finding.numbers("packets")[own[0]])
            x = np.concatenate(([seconds[own[0]]], seconds[own], [longest]))
            y = np.concatenate(([0.0], parts[own], [parts[own[-1]]]))
            label = words(f"{size} 份（{n:,} 个）", f"{size} shares (n = {n:,})")
            axes.step(x, y, where="post", color=colour, linestyle=_DASHES[place], linewidth=1.8, label=label)
    _subtitle(axes, words("被抢光的红包占比，按红包份数", "part of the packets that have sold out, by packet size"))
    _time_axis(axes, [float(seconds.min()), float(seconds.max())], words)
    axes.set_xlabel(words("从发出到抢光（对数）", "from sending to the last share (log scale)"))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylim(0, 1.02)
    axes.legend(loc="upper left", fontsize=9)


def _shares(figure: Figure, finding: Finding, words: Words) -> None:
    axes = figure.subplots()
    begin = np.array(finding.numbers("from_means"))
    parts, law = np.array(finding.numbers("part")), np.array(finding.numbers("part_by_law"))
    n, drawn = finding.units["claims"], finding.units["drawn"]
    label = words(f"领到的份额（{n:,} 份）", f"claimed shares (n = {n:,})")
    axes.bar(begin, parts, 0.1, align="edge", color=SKY, edgecolor="white", linewidth=0.5, label=label)
    by_law = words(f"拆分规则（抽 {drawn:,} 份）", f"the split's law ({drawn:,} drawn)")
    axes.stairs(law, [*begin, begin[-1] + 0.1], color=RED, linewidth=1.8, label=by_law, baseline=None)
    _subtitle(axes, words("占全部份额的比例，每格十分之一个平均数", "part of all shares, in tenths of a mean"))
    axes.set_xlabel(
        words("份额是本红包平均数的多少倍（扣除下限）", "share as a multiple of its packet's mean, above the minimum")
    )
    axes.set_xticks([0, 1, 2, 3, 4], ["0", "1", "2", "3", "≥ 4"])
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0 if parts.max() > 0.06 else 1))
    axes.legend(loc="upper right")


def _luckiest(figure: Figure, finding: Finding, words: Words) -> None:
    axes = figure.subplots()
    places = np.arange(len(finding.rows))
    low, high = np.array(finding.numbers("low_95")), np.array(finding.numbers("high_95"))
    expected, parts = finding.numbers("expected_part"), finding.numbers("part")
    axes.bar(
        places, high - low, 0.9, bottom=low, color=PALE, label=words("碰巧的 95% 范围", "95% band of chance"), zorder=1
    )
    axes.hlines(expected, places - 0.45, places + 0.45, color=GREY, linewidth=1.2, zorder=2)
    n = finding.units["packets"]
    label = words(f"手气最佳（{n:,} 个红包）", f"largest share (n = {n:,} packets)")
    axes.plot(places, parts, "o", color=RED, markersize=8, label=label, zorder=3)
    _subtitle(
        axes,
        words(
            "手气最佳落在队伍这一段的红包占比", "part of the packets whose largest share was in this part of the queue"
        ),
    )
    axes.set_xticks(places, [f"{place * 10}–{place * 10 + 10}%" for place in places], fontsize=9)
    axes.set_xlabel(words("在领取队伍中的位置", "place in the queue of claims"))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    most, least = max(*high, *parts), min(*low, *parts)
    axes.set_ylim(max(0.0, least - (most - least)), most + 0.6 * (most - least))
    axes.grid(visible=False, axis="x")
    axes.legend(loc="upper right", ncols=2)


def _activity(figure: Figure, finding: Finding, words: Words) -> None:
    hours, days = figure.subplots(1, 2, width_ratios=(3, 2))
    by = finding.column("by")
    claims, packets = finding.numbers("claims_a_day"), finding.numbers("packets_a_day")
    of_hour = [place for place, what in enumerate(by) if what == "hour"]
    taken, sent = (np.array([numbers[place] for place in of_hour]) for numbers in (claims, packets))
    hours.bar(range(HOURS), taken / max(taken.sum(), 1e-9), color=SKY, label=words("领取", "claims"))
    hours.plot(
        range(HOURS), sent / max(sent.sum(), 1e-9), "o-", color=RED, markersize=4, label=words("发红包", "packets sent")
    )
    _subtitle(hours, words("全天的占比，按小时（北京时间）", "part of the whole day, by hour in China"))
    hours.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], min_n_ticks=2))
    hours.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    hours.set_xticks(range(0, HOURS, 3), [f"{hour:02d}" for hour in range(0, HOURS, 3)])
    hours.legend(loc="upper left", fontsize=9)
    names = OCCASIONS_ZH if words.language is Language.ZH else OCCASIONS_EN
    texts = {str(key): text for key, text in names.items()}
    of_day = [place for place, what in enumerate(by) if what == "occasion"][::-1]
    labels = [_of_days(texts[str(finding.rows[place][1])], int(str(finding.rows[place][2])), words) for place in of_day]
    bars = days.barh(labels, [claims[place] for place in of_day], color=SKY)
    days.bar_label(bars, [f"{claims[place]:,.0f}" for place in of_day], padding=3, fontsize=8, color=GREY)
    _subtitle(days, words("每天领取的份数", "claims a day"))
    days.margins(x=0.18)
    days.grid(visible=False, axis="y")
    days.tick_params(labelsize=8)
    days.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _place: f"{value:,.0f}" if value >= 10 else f"{value:g}")
    )
    days.xaxis.set_major_locator(MaxNLocator(3))


def _of_days(name: str, days: int, words: Words) -> str:
    return words(f"{name}（{days} 天）", f"{name} ({days} d)")


def _concentration(figure: Figure, finding: Finding, words: Words) -> None:
    axes = figure.subplots()
    sides = finding.column("side")
    users, amounts = finding.numbers("part_of_users"), finding.numbers("part_of_amount")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label=words("人人一样多", "all have the same"))
    for side, colour, dashes, zh, en in (
        (SENDING, RED, "-", "发", "sending"),
        (RECEIVING, BLUE, "--", "收", "receiving"),
    ):
        own = [place for place, of in enumerate(sides) if of == side]
        if own:
            n, gini = int(str(finding.rows[own[0]][1])), float(str(finding.rows[own[0]][2]))
            label = words(f"{zh}（{n:,} 人，基尼 {gini:.2f}）", f"{en} (n = {n:,}, Gini {gini:.2f})")
            points = [0.0, *(users[place] for place in own)], [0.0, *(amounts[place] for place in own)]
            axes.plot(*points, color=colour, linestyle=dashes, linewidth=2, label=label)
    _subtitle(axes, words("累计金额占比", "part of the whole amount"))
    axes.set_xlabel(words("累计人数占比，从最少的开始", "part of the users, those with the least first"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.01)
    axes.legend(loc="upper left")


def _unclaimed(figure: Figure, finding: Finding, words: Words) -> None:
    axes = figure.subplots()
    sizes = [str(size) for size in finding.column("shares")]
    packets = np.array(finding.numbers("packets"))
    left = np.zeros(len(sizes))
    labels = [words(f"{size} 份\n{n:,.0f} 个", f"{size}\nn = {n:,.0f}") for size, n in zip(sizes, packets, strict=True)]
    for column, colour, zh, en in (
        ("sold_out", BLUE, "抢光", "sold out"),
        ("partly", SKY, "到期有剩余", "expired, some left"),
        ("untouched", ORANGE, "到期无人领", "expired untouched"),
        ("retracted", PALE, "撤回", "retracted"),
    ):
        part = np.array(finding.numbers(column)) / packets
        axes.barh(labels, part, left=left, color=colour, edgecolor="white", label=words(zh, en))
        for place, width in enumerate(part):
            if width >= 0.06:
                dark = colour == BLUE
                text = f"{100 * width:.0f}%"
                axes.text(
                    left[place] + width / 2,
                    place,
                    text,
                    ha="center",
                    va="center",
                    fontsize=9,
                    color="white" if dark else "black",
                )
        left += part
    back = np.array(finding.numbers("returned")) / np.array(finding.numbers("total"))
    for place, part in enumerate(back):
        text = words(f"金额退回 {100 * part:.1f}%", f"{100 * part:.1f}% of the money")
        axes.text(1.01, place, text, va="center", fontsize=9, color=GREY)
    axes.invert_yaxis()
    _subtitle(
        axes,
        words(
            "按份数：红包的结局；右边是退回的金额", "what became of packets, by shares; at the right, what went back"
        ),
    )
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(visible=False, axis="y")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)


def _refunds(figure: Figure, finding: Finding, words: Words) -> None:
    by_hour, by_amount = figure.subplots(1, 2, width_ratios=(3, 2))
    hours, counts = finding.numbers("hour"), np.array(finding.numbers("refunds"))
    amounts, asset = np.array(finding.numbers("amount")), finding.units["asset"]
    of_hour = [counts[[place for place, at in enumerate(hours) if at == hour]].sum() for hour in range(HOURS)]
    by_hour.bar(range(HOURS), of_hour, color=SKY)
    _subtitle(by_hour, words("退款笔数，按小时（北京时间）", "refunds by hour in China"))
    by_hour.set_xticks(range(0, HOURS, 3), [f"{hour:02d}" for hour in range(0, HOURS, 3)])
    by_hour.yaxis.set_major_locator(MaxNLocator(integer=True))
    rows = finding.rows[:5]
    labels = [f"{_plain(row[1])}–{_plain(row[2])}" if row[2] is not None else f"≥ {_plain(row[1])}" for row in rows]
    places = np.arange(5)
    of_size = [counts[size::5].sum() / counts.sum() for size in range(5)]
    of_money = [amounts[size::5].sum() / amounts.sum() for size in range(5)]
    by_amount.barh(places - 0.2, of_size, 0.4, color=SKY, label=words("笔数", "of the refunds"))
    by_amount.barh(places + 0.2, of_money, 0.4, color=RED, label=words("金额", "of the money"))
    by_amount.set_yticks(places, labels)
    by_amount.invert_yaxis()
    _subtitle(by_amount, words(f"占比，按每笔金额（{asset}）", f"parts, by amount of a refund ({asset})"))
    by_amount.xaxis.set_major_formatter(PercentFormatter(1.0))
    by_amount.grid(visible=False, axis="y")
    by_amount.legend(loc="lower right", fontsize=9)


def _plain(cell: object) -> str:
    return f"{float(str(cell)):,g}"


def _campaigns(figure: Figure, finding: Finding, words: Words) -> None:
    axes = figure.subplots()
    shares = np.array(finding.numbers("shares"))
    names = [f"{str(row[1])[:18]}\n#{row[0]}, n = {row[3]:,}" for row in finding.rows]
    left = np.zeros(len(shares))
    places = np.arange(len(shares))
    for column, colour, zh, en in (
        ("won", RED, "抢到", "won"),
        ("returned", SKY, "退回", "came back"),
        ("left", PALE, "还在进行", "still open"),
    ):
        part = np.array(finding.numbers(column)) / shares
        axes.barh(places, part, left=left, color=colour, edgecolor="white", label=words(zh, en))
        left += part
    axes.set_yticks(places, names, fontsize=8 if len(places) <= 8 else 5)
    for place, row in enumerate(finding.rows):
        text = words(f"{row[5]:,} 人中奖", f"{row[5]:,} winners")
        axes.text(1.01, place, text, va="center", fontsize=9 if len(places) <= 8 else 6, color=GREY)
    axes.invert_yaxis()
    _subtitle(axes, words("每场红包雨：投放的份额后来怎样", "each campaign: what became of the shares that it put up"))
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(visible=False, axis="y")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)


def _settlement(figure: Figure, finding: Finding, words: Words) -> None:
    days = sorted({str(day) for day in finding.column("day")} - {"all"})
    by_day = None
    if len(days) >= _DAYS_DRAWN:
        whole, by_day = figure.subplots(1, 2)
    else:
        whole = figure.subplots()
    own = [row for row in finding.rows if row[0] == "all"]
    seconds = [max(float(str(row[4])), 0.001) for row in own]
    whole.step(seconds, [float(str(row[3])) for row in own], where="post", color=BLUE, linewidth=2)
    settled = int(str(own[0][1])) - int(str(own[0][2]))
    _subtitle(
        whole, words(f"已结清的红包占比（{settled:,} 个）", f"part of the packets that settled (n = {settled:,})")
    )
    _time_axis(whole, seconds, words)
    whole.set_xlabel(words("从结束到结清（对数）", "from the end to the settlement (log scale)"))
    whole.yaxis.set_major_formatter(PercentFormatter(1.0))
    whole.set_ylim(0, 1.02)
    if by_day is None:
        return
    for fraction, colour, dashes, zh, en in (
        (0.5, BLUE, "-", "中位数", "median"),
        (0.99, RED, "--", "99%", "99th percentile"),
    ):
        at = {str(row[0]): max(float(str(row[4])), 0.001) for row in finding.rows if row[3] == fraction}
        by_day.plot(
            range(len(days)),
            [at[day] for day in days],
            linestyle=dashes,
            marker="o",
            ms=3,
            color=colour,
            label=words(zh, en),
        )
    of_days = [max(float(str(row[4])), 0.001) for row in finding.rows if row[0] != "all"]
    _time_axis(by_day, of_days, words, is_y=True)
    shown = sorted({0, len(days) // 2, len(days) - 1})
    by_day.set_xticks(shown, [days[place][5:] for place in shown])
    _subtitle(by_day, words("按结束的日子（对数）", "by day of the end (log scale)"))
    by_day.legend(fontsize=9)


CHARTS: dict[str, Callable[[Figure, Finding, Words], None]] = {
    "storm": _storm,
    "sold_out": _sold_out,
    "shares": _shares,
    "luckiest": _luckiest,
    "activity": _activity,
    "concentration": _concentration,
    "unclaimed": _unclaimed,
    "refunds": _refunds,
    "campaigns": _campaigns,
    "settlement": _settlement,
}
