"""The demo's output: what happened, the luckiest claimants, a picture of one split, the audit."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from loadtest.demo.story import Story

_BAR_WIDTH = 40
_SHOWN = 5


def show(console: Console, story: "Story", findings: Sequence[dict[str, object]]) -> None:
    """Print the whole report."""
    console.print(_happened(story))
    if any(_is_emptied_lucky(view) for view in story.views.values()):
        console.print(_luckiest(story))
        _picture(console, story)
    _audit(console, findings)
    for problem in story.problems:
        console.print(f"FAILED {problem}", markup=False)


def _happened(story: "Story") -> Table:
    answers = story.answers
    p50, p99 = np.percentile(answers.latencies_ms, (50, 99))
    timed = story.views[story.timed_packet]
    paid_fen = sum(int(str(view["total_fen"])) for view in story.views.values())
    rows = [
        ("packets sent", f"{len(story.packets)}, {_yuan(paid_fen)}"),
        ("claim requests answered", f"{sum(answers.outcomes.values()):,}"),
        ("  claimed", f"{answers.outcomes['claimed']:,}, {_yuan(sum(answers.amounts.values()))}"),
        ("  repeats, with the same amount", f"{answers.outcomes['already_claimed']:,}"),
        ("  sold out", f"{answers.outcomes['sold_out']:,}"),
        ("asked again after no answer", f"{answers.retried:,}"),
        ("requests per second, one Python client", f"{sum(answers.outcomes.values()) / story.storm_s:,.0f}"),
        ("latency p50 / p99", f"{p50:.1f} / {p99:.1f} ms"),
        ("killed in the middle (SIGKILL)", ", ".join(story.killed)),
        *([] if story.away_s is None else [("wait for the killed Redis master", _waited(story))]),
        ("persister lag at most", f"{story.lag_events_max:,.0f} changes, {story.lag_s_max:.2f} s"),
        ("all settled after", f"{story.settle_s:.1f} s"),
        (
            "timed packet",
            f"{timed['claimed_count']} of {timed['count']} claimed, {_yuan(int(str(timed['remaining_fen'])))} refunded",
        ),
    ]
    table = Table(title="What happened", show_header=False)
    for name, value in rows:
        table.add_row(name, value)
    return table


def _waited(story: "Story") -> str:
    return f"{story.away_s:.1f} s, {story.put_off:,} claims asked again"


def _is_emptied_lucky(view: dict[str, object]) -> bool:
    return view["split"] == "lucky" and view["luckiest"] is not None


def _luckiest(story: "Story") -> Table:
    table = Table(title="手气最佳, the luckiest")
    for column in ("packet", "shares", "total", "luckiest", "amount"):
        table.add_column(column)
    shown = [view for view in story.views.values() if _is_emptied_lucky(view)][:_SHOWN]
    for view in shown:
        luckiest = view["luckiest"]
        assert isinstance(luckiest, dict)
        total, amount = _yuan(int(str(view["total_fen"]))), _yuan(luckiest["amount_fen"])
        table.add_row(str(view["packet_id"]), str(view["count"]), total, luckiest["user_id"], amount)
    return table


def _picture(console: Console, story: "Story") -> None:
    """Show one lucky packet with one bar per share, in the order of claiming."""
    view = min(filter(_is_emptied_lucky, story.views.values()), key=lambda view: abs(int(str(view["count"])) - 12))
    shares = [
        (user_id, amount_fen)
        for (packet_id, user_id), amount_fen in story.answers.amounts.items()
        if packet_id == view["packet_id"]
    ]
    console.print(f"\nOne split: packet {view['packet_id']}, {view['count']} shares", highlight=False)
    largest = max(amount_fen for _, amount_fen in shares)
    for user_id, amount_fen in shares:
        bar = "█" * max(1, round(amount_fen / largest * _BAR_WIDTH))
        console.print(f"  {user_id} {_yuan(amount_fen):>9} {bar}", highlight=False)
    console.print()


def _audit(console: Console, findings: Sequence[dict[str, object]]) -> None:
    table = Table(title="The audit", box=None, title_justify="left", pad_edge=False)
    table.add_column("")
    table.add_column("invariant")
    table.add_column("examined", justify="right")
    for finding in findings:
        table.add_row("ok" if finding["holds"] else "FAILED", str(finding["statement"]), f"{finding['examined']:,}")
        problems = finding["problems"]
        assert isinstance(problems, list)
        for problem in problems:
            table.add_row("", escape(f"- {problem}"))
    console.print(table)
    console.print()


def _yuan(fen: int) -> str:
    """Fen as yuan for people. It uses only integers."""
    return f"¥{fen // 100:,}.{fen % 100:02d}"
