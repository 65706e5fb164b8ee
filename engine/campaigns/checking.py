"""Checks a campaign's proof without a server: its seeds and parts are those that it was committed to."""

from engine.campaigns.draws import MONEY, commitment
from engine.campaigns.terms import SHARES_MAX
from engine.campaigns.views import CampaignProof
from engine.packets import proof
from engine.packets.split import SEED_BYTES


def read(text: bytes) -> CampaignProof:
    """Read a proof as the server returns it. Raises OperatorError that says what is wrong with it."""
    return proof.read_as(text, CampaignProof, _check_form, "a campaign's proof")


def _check_form(found: CampaignProof) -> None:
    """Raise ValueError for what ``verify`` cannot look at: anyone may have written it."""
    bytes.fromhex(found.commitment)
    if len(bytes.fromhex(found.seed)) != SEED_BYTES:
        raise ValueError(f"`seed` must have {SEED_BYTES} bytes")
    if not (found.campaign_id.isascii() and found.campaign_id.isdigit()):
        raise ValueError("`campaign_id` is not a number")
    parts = _parts(found)
    for part in parts:
        proof.check_form(part)
    # One after another they are redone in memory, and no campaign has more.
    if sum(max(0, part.count) for part in parts) > SHARES_MAX:
        raise ValueError(f"it has more than {SHARES_MAX} shares")


def verify(found: CampaignProof, given_commitment: str | None = None) -> list[str]:
    """What is wrong with a campaign's proof. ``given_commitment``: the one that counts, as it was published."""
    problems = [
        f"packet {part.packet_id}: {problem}" for part in _parts(found) for problem in proof.verify(part).problems
    ]
    buckets = [
        (wave.wave, part.asset or MONEY, part.packet_id, bytes.fromhex(part.commitment))
        for wave in found.waves
        for part in wave.buckets
    ]
    due = (given_commitment or found.commitment).lower()
    if commitment(found.campaign_id, found.odds_millionths, bytes.fromhex(found.seed), buckets).hex() != due:
        problems.append(f"odds, seed and packets are not those that were committed to ({due})")
    return problems


def _parts(found: CampaignProof) -> list[proof.Proof]:
    return [part for wave in found.waves for part in wave.buckets]
