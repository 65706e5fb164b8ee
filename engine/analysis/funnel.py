"""Campaigns: what they put up, what was won, by how many users, and what came back.

The ledger does not know who tapped. A tap that missed by the odds, or came too late, moved nothing; only the metrics of
HTTP requests count taps (hongbao_http_requests_total of the route …/grabs).
"""

from collections.abc import Sequence

from engine.analysis.finding import Cell, Finding, Said, found, nothing
from engine.analysis.scope import SQL, Reader
from engine.analysis.sentences import days_en, days_zh, percent
from engine.campaigns.draws import MILLION

CAMPAIGNS_MAX = 20


async def campaigns(reader: Reader) -> Finding:
    """The newest campaigns with a wave in these days."""
    scope = reader.scope
    name = "campaigns"
    columns = (
        *("campaign_id", "name", "odds", "shares", "won", "winners", "returned", "left"),
        *("amount", "won_amount", "returned_amount", "open_parts"),
    )
    groups = await reader.claims(SQL["campaigns"], CAMPAIGNS_MAX)
    if not groups:
        return nothing(name, columns, zh="这些天没有红包雨。", en="No campaign had a wave in these days.")
    rows: list[tuple[Cell, ...]] = [
        (
            *(str(group["campaign_id"]), group["name"], group["odds_millionths"] / MILLION),
            *(group["shares"], group["won_shares"], group["winners"], group["returned_shares"]),
            group["shares"] - group["won_shares"] - group["returned_shares"],
            *(scope.in_units(group[of]) for of in ("fen", "won_fen", "returned_fen")),
            group["open_parts"],
        )
        for group in groups
    ]
    shares, won = sum(group["shares"] for group in groups), sum(group["won_shares"] for group in groups)
    returned = sum(int(group["returned_fen"]) for group in groups)
    total = sum(int(group["fen"]) for group in groups)
    in_all = groups[0]["of_campaigns"]
    of_all_en = f"The newest {len(groups)} of {in_all:,} campaigns" if in_all > len(groups) else f"{in_all:,} campaigns"
    of_all_zh = f"{in_all:,} 场红包雨中最新的 {len(groups)} 场" if in_all > len(groups) else f"{in_all:,} 场红包雨"
    odds_zh, odds_en = _odds([group["odds_millionths"] for group in groups])
    return found(
        name,
        columns,
        rows,
        zh=Said(
            title=f"红包雨的 {percent(won, shares)} 被抢到，退回 {scope.amount(returned)}",
            sentences=(
                f"{days_zh(scope)}：{of_all_zh}投放 {shares:,} 份、{scope.amount(total)}，抢到 {won:,} 份，退回 "
                f"{scope.amount(returned)}。",
                "谁点过、谁没中，账本不知道：没中的点击没有动钱，点击次数只在指标里（hongbao_http_requests_total，…/grabs）。"
                + odds_zh,
            ),
        ),
        en=Said(
            title=f"{percent(won, shares)} of the rain was won, {scope.amount(returned)} came back",
            sentences=(
                f"{of_all_en} with a wave {days_en(scope)} put up {shares:,} shares of {scope.amount(total)}: "
                f"{won:,} were won, and "
                f"{scope.amount(returned)} came back.",
                "Who tapped, and who missed, is in no ledger: a miss moves no money, and only metrics count taps "
                "(hongbao_http_requests_total of …/grabs)." + odds_en,
            ),
        ),
        units={"asset": scope.unit},
    )


def _odds(chances: Sequence[int]) -> tuple[str, str]:
    """What the published odds make of those who tap, if they refuse anybody."""
    misses = [percent(MILLION - chance, MILLION) for chance in sorted(set(chances)) if chance < MILLION]
    if not misses:
        return "按公布的概率，人人都能中。", " By the published odds, everybody may win."
    return (
        f"按公布的概率，{'、'.join(misses)} 的用户在一波中必然不中。",
        f" By the published odds, {', '.join(misses)} of the users miss in a wave whatever they tap.",
    )
