"""Paths of the route table with something in place of each name in braces."""

from api.dispatch import Operation
from api.paths import (
    ASSET_FORM,
    COUPON_FORM,
    MCH_ID_FORM,
    PACKET_NUMBER_FORM,
    PART_FORM,
    PATH_NAMES,
    ROW_NUMBER_FORM,
    WAVE_FORM,
)
from api.payloads import USER_ID_FORM


def path_of(row: Operation, number: str, user_id: str = "alice", row_number: str = "1") -> str:
    """A route's path. ``number``: for whatever stands for a packet; ``row_number``: for what is counted from 1."""
    return filled(row.path, number, user_id, row_number)


def filled(path: str, number: str, user_id: str = "alice", row_number: str = "1") -> str:
    """The same of a path as the table has it."""
    samples = {
        PACKET_NUMBER_FORM: number,
        ROW_NUMBER_FORM: row_number,
        USER_ID_FORM: user_id,
        ASSET_FORM: "POINTS",
        WAVE_FORM: "1",
        COUPON_FORM: f"{row_number}-1",
        PART_FORM: "1",
        MCH_ID_FORM: "1900000109",
    }
    return path.format(**{name: samples[kind.form] for name, kind in PATH_NAMES.items()})
