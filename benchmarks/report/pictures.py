"""The pictures of a report, from its raw results."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from benchmarks.parts.batches import HANDS_A_PACKET
from benchmarks.parts.storms import CONNECTIONS
from benchmarks.report.growth import CURVES, WITHIN, Curve
from benchmarks.report.selection import SERVERS, Selection, cpu_us
from benchmarks.rig.redis_server import APPENDFSYNC
from benchmarks.rig.runs import Run

COLOURS = {
    "hongbao": "#c8102e",
    "go-group": "#1f3d6e",
    "go": "#3a7ca5",
    "nginx": "#2f9e6e",
    "fastify": "#8d6cab",
    "textbook": "#b08948",
    "postgres": "#5b6470",
}
_PROCESS_COLOURS = {"server": "#c8102e", "redis": "#e9a23b", "wrk": "#d5d9dd"}
Draw = Callable[[Axes, Mapping[str, Any]], bool]


def draw(folder: Path, results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Draw all pictures that have results. Returns (file name, caption)."""
    drawn = []
    with mpl.rc_context(
        {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25}
    ):
        for name, caption, fill in _PICTURES:
            canvas = Canvas(figsize=(6.4, 3.6), layout="constrained")
            axes = canvas.add_subplot()
            axes.set_title(caption, loc="left", fontsize=10)
            if fill(axes, results):
                canvas.savefig(folder / name, dpi=110)
                drawn.append((name, caption))
    return drawn


def _throughput(axes: Axes, results: Mapping[str, Any]) -> bool:
    shown = False
    for server, title in SERVERS.items():
        points = [(c, Selection(results["runs"], "A", server, c).figure("answers_per_s")) for c in CONNECTIONS]
        known = [(c, found) for c, found in points if found]
        if known:
            shown = True
            middle = [found.median for _, found in known]
            below = [found.median - found.least for _, found in known]
            above = [found.most - found.median for _, found in known]
            spread, colour = [below, above], COLOURS[server]
            places = [c for c, _ in known]
            axes.errorbar(places, middle, yerr=spread, marker="o", capsize=3, color=colour, label=title)
    axes.set_xticks(CONNECTIONS)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("connections")
    axes.set_ylabel("claims/s")
    return shown and _legend(axes, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _latency(axes: Axes, results: Mapping[str, Any]) -> bool:
    shown = False
    for server, title in SERVERS.items():
        curves = [run["curve"] for run in Selection(results["runs"], "open loop", server)]
        if curves:
            shown = True
            nines = [-np.log10(1 - share) for share, _ in curves[0]]
            lines = np.array([[ms for _, ms in curve] for curve in curves])
            colour = COLOURS[server]
            axes.plot(nines, np.median(lines, axis=0), color=colour, label=title)
            axes.fill_between(nines, lines.min(axis=0), lines.max(axis=0), color=colour, alpha=0.15, linewidth=0)
    axes.set_xticks([0, 1, 2, 3, 4, 5], ["0", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"])
    axes.set_yscale("log")
    axes.set_ylabel("ms")
    return shown and _legend(axes)


def _cpu(axes: Axes, results: Mapping[str, Any]) -> bool:
    chosen = [Selection(results["runs"], "A", server, CONNECTIONS[-1]) for server in SERVERS]
    chosen = [selection for selection in chosen if list(selection)]
    left = np.zeros(len(chosen))
    for name in ("server", "redis", "wrk"):
        found = [selection.figure(cpu_us(name)) for selection in chosen]
        widths = np.array([figure.median if figure else 0.0 for figure in found])
        axes.barh(np.arange(len(chosen)), widths, left=left, color=_PROCESS_COLOURS[name], label=name)
        left += widths
    axes.set_yticks(range(len(chosen)), [SERVERS[selection.server] for selection in chosen])
    axes.invert_yaxis()
    axes.set_xlabel("CPU us per claim")
    return bool(chosen) and _legend(axes)


def _append_only(axes: Axes, results: Mapping[str, Any]) -> bool:
    runs: list[Run] = results["runs"]
    chosen = [(s, Selection([run for run in runs if run.get("appendfsync") == s], "AOF")) for s in APPENDFSYNC]
    axes.set_xlabel("appendfsync (off: no append-only file)")
    return _bars(axes, chosen)


def _batches(axes: Axes, results: Mapping[str, Any]) -> bool:
    axes.set_xlabel("claimants per packet in a request of 500 claims")
    return _bars(axes, [(str(hands), Selection(results["runs"], f"D {hands}")) for hands in HANDS_A_PACKET])


def _bars(axes: Axes, chosen: Sequence[tuple[str, Selection]]) -> bool:
    found = [(label, selection.figure("claims_per_s")) for label, selection in chosen]
    known = [(label, figure) for label, figure in found if figure]
    for place, (_, figure) in enumerate(known):
        spread = [[figure.median - figure.least], [figure.most - figure.median]]
        axes.bar(place, figure.median, yerr=spread, capsize=3, color=COLOURS["hongbao"], width=0.6)
        axes.text(place, figure.median / 2, f"{figure.median:,.0f}", ha="center", color="white")
    axes.set_xticks(range(len(known)), [label for label, _ in known])
    axes.set_ylabel("claims/s")
    return bool(known)


def _lag(axes: Axes, results: Mapping[str, Any]) -> bool:
    runs = list(Selection(results["runs"], "E"))
    for run in runs:
        times, lags = zip(*run["lag"], strict=True)
        axes.plot(times, lags, color=COLOURS["hongbao"], alpha=0.6, linewidth=1)
        axes.axvline(run["duration_s"], color="#5b6470", linestyle=":", linewidth=0.8)
    axes.set_xlabel("seconds since the load began (dotted: it ended)")
    axes.set_ylabel("seconds behind")
    axes.set_ylim(bottom=0)
    return bool(runs)


def _outage(axes: Axes, results: Mapping[str, Any]) -> bool:
    runs = [run for run in results["runs"] if run["workload"] == "outage" and "backlog" in run]
    for run in runs:
        seconds = [second["second"] for second in run["seconds"]]
        for name, colour in (("given", COLOURS["hongbao"]), ("busy", "#5b6470")):
            axes.plot(seconds, [second[name] for second in run["seconds"]], color=colour, label=f"{name}/s")
        behind = axes.twinx()
        behind.plot(*zip(*run["backlog"], strict=True), color="#e9a23b", label="claims behind")
        behind.set_ylabel("claims the ledger lacks")
        behind.set_ylim(bottom=0)
    axes.set_xlabel("seconds")
    axes.set_ylabel("answers/s")
    axes.set_ylim(bottom=0)
    return bool(runs) and _legend(axes)


def _places(axes: Axes, results: Mapping[str, Any]) -> bool:
    found = results.get("others", {}).get("split", {}).get("by_place")
    if not found:
        return False
    places = np.arange(1, len(found["mean_fen"]) + 1)
    bands = found["percentiles_fen"]
    axes.fill_between(
        places, bands["5"], bands["95"], color=COLOURS["hongbao"], alpha=0.12, label="5–95 %", linewidth=0
    )
    axes.fill_between(
        places, bands["25"], bands["75"], color=COLOURS["hongbao"], alpha=0.25, label="25–75 %", linewidth=0
    )
    axes.plot(places, bands["50"], color=COLOURS["hongbao"], label="median")
    axes.plot(places, found["mean_fen"], color="#5b6470", linestyle="--", label="mean")
    axes.set_xticks(places)
    axes.set_xlabel("place in the queue (100 yuan, 10 shares)")
    axes.set_ylabel("fen")
    axes.set_ylim(bottom=0)
    return _legend(axes)


def _fairness(axes: Axes, results: Mapping[str, Any]) -> bool:
    rules = results.get("others", {}).get("fairness", {}).get("rules", {})
    colours = (COLOURS["hongbao"], "#5b6470")
    for (rule, by_place), colour in zip(rules.items(), colours, strict=False):
        places = np.arange(1, len(by_place["luckiest"]) + 1)
        axes.plot(places, by_place["luckiest"], color=colour, marker="o", markersize=3, label=rule)
        axes.set_xticks(places)
    axes.set_xlabel("place in the queue")
    axes.set_ylabel("part of packets")
    axes.set_ylim(bottom=0)
    return bool(rules) and _legend(axes)


def _growth(axes: Axes, results: Mapping[str, Any]) -> bool:
    shown = False
    for curve in CURVES:
        points = [point for point in curve.points(results["runs"]) if point.times is not None]
        if len(points) > 1:
            shown = True
            counts = [point.amount / points[0].amount for point in points]
            axes.plot(counts, [point.times.median for point in points if point.times], marker="o", label=_named(curve))
    axes.axhline(WITHIN, color="#5b6470", linestyle=":", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("times as much as at first (dotted: the goal)")
    axes.set_ylabel("x what it cost at first")
    return shown and _legend(axes, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _named(curve: Curve) -> str:
    return f"{curve.grows}:\n{curve.unit} {curve.costs}"


def _legend(axes: Axes, **place: Any) -> bool:  # noqa: ANN401 - as matplotlib takes it
    axes.legend(frameon=False, fontsize=8, **place)
    return True


_PICTURES: tuple[tuple[str, str, Draw], ...] = (
    ("throughput.png", "A: claims per second, every one a winner", _throughput),
    ("cpu.png", "A, 256 connections: CPU time of a claim", _cpu),
    ("latency.png", "Open loop at half of saturation: latency by percentile", _latency),
    ("batches.png", "D: claims per second in requests of 500", _batches),
    ("aof.png", "A, 256 connections: what the append-only file costs", _append_only),
    ("lag.png", "E: how far the ledger is behind", _lag),
    ("outage.png", "Postgres held for a minute: what is given, and how far the ledger is behind", _outage),
    ("fairness.png", "How often each place has the luckiest share", _fairness),
    ("growth.png", "What grows, and what it costs", _growth),
    ("places.png", "G: a lucky share by place in the queue", _places),
)
