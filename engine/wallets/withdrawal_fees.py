"""The cost of a withdrawal. A lifetime allowance per user is free. The rest has a fee on top."""

from typing import NamedTuple

from engine.settings import Settings


class Cost(NamedTuple):
    """``free_fen``: the part covered by the allowance. ``fee_fen``: the fee on top of the amount."""

    free_fen: int
    fee_fen: int


def cost_of(amount_fen: int, used_fen: int, settings: Settings) -> Cost:
    """The cost of withdrawing ``amount_fen`` if ``used_fen`` of the allowance is used.

    The fee is a share (a setting) of what exceeds the allowance, rounded up to a fen, and at least the smallest fee. An
    amount within the allowance has no fee.
    """
    left_fen = max(0, settings.withdrawal_free_fen - used_fen)
    free_fen = min(amount_fen, left_fen)
    charged_fen = amount_fen - free_fen
    if charged_fen == 0:
        return Cost(free_fen, 0)
    part_fen = -(-charged_fen * settings.withdrawal_fee_per_mille // 1_000)
    return Cost(free_fen, max(part_fen, settings.withdrawal_fee_fen_min))
