"""Before a server is measured, it must answer correctly: a share, its repeat, and the end of a packet of two shares."""

import json

from benchmarks.rig.servers import Started

FIELDS = ["amount_fen", "outcome", "packet_id", "user_id"]


class WrongAnswerError(Exception):
    """A server does not do the measured work correctly."""


def check(server: Started, packet_id: str, token: str) -> None:
    """Play the probe packet to its end. Raises WrongAnswerError."""
    first = _claim(server, packet_id, "probe-1", token)
    again = _claim(server, packet_id, "probe-1", token)
    second = _claim(server, packet_id, "probe-2", token)
    late = _claim(server, packet_id, "probe-3", token)
    still = _claim(server, packet_id, "probe-1", token)
    outcomes = [answer["outcome"] for answer in (first, again, second, late, still)]
    wanted = ["claimed", "already_claimed", "claimed", "sold_out", "already_claimed"]
    if outcomes != wanted:
        raise WrongAnswerError(f"{server.server.title} answered {outcomes} where {wanted} is right")
    if not first["amount_fen"] == again["amount_fen"] == still["amount_fen"] or late["amount_fen"] != 0:
        raise WrongAnswerError(f"{server.server.title} gave a repeat another amount, or a loser any")


def _claim(server: Started, packet_id: str, user_id: str, token: str) -> dict[str, object]:
    headers = {"X-User-Id": user_id, "Authorization": f"Bearer {token}"}
    status, body = server.post(f"/v1/packets/{packet_id}/claims", headers)
    answer = json.loads(body) if status == 200 else {}
    if sorted(answer) != FIELDS or answer["packet_id"] != packet_id or answer["user_id"] != user_id:
        raise WrongAnswerError(f"{server.server.title} answered {status}: {body[:200]!r}")
    return dict(answer)
