"""Paths of the route table with something in place of each name in braces."""

from api.dispatch import PACKET_NUMBERS, ROW_NUMBERS, Operation


def path_of(row: Operation, number: str, user_id: str = "alice", row_number: str = "1") -> str:
    """A route's path. ``number``: for whatever stands for a packet; ``row_number``: for what is counted from 1."""
    names = dict.fromkeys(PACKET_NUMBERS, number) | dict.fromkeys(ROW_NUMBERS, row_number)
    return row.path.format(**names, user_id=user_id)
