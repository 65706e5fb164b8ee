"""Paths of the route table with something in place of each name in braces."""

from api.dispatch import PACKET_NUMBERS, ROW_NUMBERS, Operation


def path_of(row: Operation, number: str, user_id: str = "alice", row_number: str = "1") -> str:
    """A route's path. ``number``: for whatever stands for a packet; ``row_number``: for what is counted from 1."""
    return filled(row.path, number, user_id, row_number)


def filled(path: str, number: str, user_id: str = "alice", row_number: str = "1") -> str:
    """The same of a path as the table has it."""
    names = dict.fromkeys(PACKET_NUMBERS, number) | dict.fromkeys(ROW_NUMBERS, row_number)
    return path.format(**names, user_id=user_id, label=user_id)
