"""The engine's frequent sentences in the person's language: of lanes, of quarantine, of wrong fields.

The engine speaks English and knows no languages. What is not listed here is shown as the engine says it. ``{}`` in a
sentence is something that differs: a number, a name, or another of these sentences.
"""

import re
from collections.abc import Callable, Iterable

from api.console.texts import marked

KNOWN = (
    # Lanes (engine.persisting.lane_lines, engine.recovery.epochs).
    *(
        marked("no process has begun it yet"),
        marked("fenced: Redis has lost it"),
        marked("fenced: it is being rebuilt from the ledger"),
        marked("fenced: it is being moved to another server"),
        marked("fenced: Redis and the ledger disagree about its epoch"),
        marked("behind the ledger in Redis: it was set back"),
        marked("fenced: Redis was restarted and is not compared with the ledger yet"),
        marked("Redis has a key of another type in the place of its stream"),
    ),
    # Quarantine (engine.ledger.posting, engine.persisting.quarantine).
    *(
        marked("it still breaks a rule: {}"),
        marked("the ledger would take it"),
        marked("the ledger has taken it"),
        marked("{} fen would leave the custody"),
        marked("{} would leave the custody"),
        marked("written off, {} fen left the custody"),
        marked("written off, {} left the custody"),
        marked("the packet is not waiting to be opened"),
        marked("the packet is not open"),
        marked("the packet is unknown"),
        marked("its amount is larger than all money in the ledger"),
        marked("it names an account that is not in the ledger"),
        marked("there is no row with this number"),
        marked("it was already {}"),
        marked("packet {} has not ended: write the claim off when it has"),
        marked("packet {} was never opened: retry its opening first"),
        marked("these changes are unknown and cannot be retried: investigate, then write them off"),
        marked("an older release set it aside and did not record how the packet ended"),
    ),
    # Why an account is frozen (engine.disputes.filing, engine.risk.watch, engine.packets.retraction).
    *(
        marked("a fraud dispute about {} is open"),
        marked("a {} of {} fen"),
        *(marked("packet"), marked("transfer"), marked("withdrawal"), marked("campaign"), marked("gift")),
        *(marked("match"), marked("card set")),
        marked("{} packets retracted within an hour"),
    ),
    # What there is not, and what must wait.
    *(
        marked("No packet has this number."),
        marked("No dispute has this number."),
        marked("No withdrawal has this number."),
        marked("No freeze has this number."),
        marked("No campaign has this number."),
        marked("No audit has this number."),
        marked("No reconciliation has this number."),
        marked("There is no approval {}."),
        marked("There is no operator {}."),
        marked("There is no lane {}."),
        marked("The list has more than {} rows, the most that a file has. Narrow the filter."),
        marked("Another audit or reconciliation is under way: try again when it has ended."),
    ),
    # Why there are no pictures (engine.analysis).
    *(
        marked("It failed: see the console's log."),
        marked("Postgres took longer than {} s for one question: ask for fewer days."),
        marked("The ledger has no asset {}; its currency is {}."),
        marked("Pictures need matplotlib: install it with pip install 'hongbao[analysis]'."),
        marked("No Chinese font is installed, so Chinese text cannot be drawn: install one (Debian: fonts-noto-cjk)."),
    ),
    # Fields that are wrong.
    *(
        marked("must be an amount in yuan as 12.34"),
        marked("must be an amount as 12.34, from 0.01 to {}"),
        marked("must be a user id"),
        marked("must be a packet's number of 19 digits"),
        marked("must be a row's number"),
        marked("must be a day as 2026-11-28"),
        marked("must be a time as 2026-12-01T20:00:00"),
        marked("must be a day that has begun in China"),
        marked("must not be before the first day"),
        marked("must leave at most {} days; these are {}"),
        marked("must be the code of an asset of this ledger"),
        marked("must be a whole number"),
        marked("must be a whole number from {} to {}"),
        marked("must be one of {}"),
        marked("must be yes or no"),
        marked("must be at most {} readable characters"),
        marked("must be 1 to 64 of A-Z a-z 0-9 . _ : @ -"),
        marked("must be {}, as the page asks for it"),
        marked("must be from 1 to {} selected rows"),
        marked("must be the form's own: open the page again"),
        marked("must be a merchant's account"),
        marked("must be an operator who may do this"),
        marked("must be the campaign's number"),
    ),
)
"""Translated in the catalogue ``base``, as several pages show them."""
_LENGTH_MAX = 500
"""What is longer is none of these."""
_FIELD = re.compile(r"([a-z][a-z0-9_.]*): (.+)", re.DOTALL)


class Sentences:
    """Some known sentences. ``{}`` in one is something that differs, which may be one of them itself."""

    def __init__(self, known: Iterable[str]) -> None:
        texts = sorted(known, key=lambda text: -len(text))
        self._exact = frozenset(text for text in texts if "{}" not in text)
        self._patterns = [
            (re.compile(re.escape(text).replace(r"\{\}", "(.+?)")), text) for text in texts if "{}" in text
        ]

    def told(self, gettext: Callable[[str], str], sentence: object) -> str:
        """The sentence in the language of ``gettext`` if it is a known one, else as it is."""
        text = str(sentence)
        if text in self._exact:
            return gettext(text)
        if len(text) <= _LENGTH_MAX:
            for pattern, known in self._patterns:
                if found := pattern.fullmatch(text):
                    return _filled(gettext(known), [self.told(gettext, part) for part in found.groups()])
        return text


_KNOWN = Sentences(KNOWN)


def in_language(gettext: Callable[[str], str], sentence: object) -> str:
    """The sentence in the language of ``gettext`` if it is a known one, else as it is."""
    return _KNOWN.told(gettext, sentence)


def fields_in_language(gettext: Callable[[str], str], sentence: str) -> str:
    """A refusal that may name fields (``field: what is wrong; field: ...``) in the language of ``gettext``."""
    parts = [_FIELD.fullmatch(part) for part in sentence.split("; ")]
    if not all(parts):
        return in_language(gettext, sentence)
    return "; ".join(f"{part[1]}: {in_language(gettext, part[2])}" for part in parts if part is not None)


def teller(gettext: Callable[[str], str]) -> Callable[[object], str]:
    """What tells sentences in the person's language, for templates."""
    return lambda sentence: in_language(gettext, sentence)


def _filled(text: str, parts: list[str]) -> str:
    """Not by ``format``: what comes from elsewhere may have braces."""
    pieces = text.split("{}")
    return "".join(piece + part for piece, part in zip(pieces, [*parts, ""], strict=True))
