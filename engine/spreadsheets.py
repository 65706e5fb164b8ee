"""What keeps a text as it is in a spreadsheet, which runs formulas and reads whatever it can as a number or a time."""

import re
import unicodedata

_LIVE = ("=", "+", "-", "@")
_BREAKS = ("\t", "\r", "\n")
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,14})")
"""What is shown as it was typed. Above 15 digits the last ones become zeros."""
_MONTHS = (
    *("jan(uary)?", "feb(ruary)?", "mar(ch)?", "apr(il)?", "may", "june?", "july?", "aug(ust)?", "sept?(ember)?"),
    *("oct(ober)?", "nov(ember)?", "dec(ember)?"),
)
_MONTH = f"({'|'.join(_MONTHS)})"
_READ = re.compile(
    "|".join(
        (
            r"[¥$€£]?\s*(\d[\d,]*(\.\d*)?|\.\d+)\s*(e[+-]?\d+)?\s*%?",  # numbers: 00123, 1e5, 12%, ¥1.5
            r"\d{1,4}(?P<mark>[-/.:])\d{1,2}((?P=mark)\d{1,4}([ t].*)?)?\s*([ap]m?)?",  # 2026-11-28, 12:30
            r"\d+\s+\d+/\d+|\d{1,2}\s*[ap]m?",
            rf"(\d{{1,4}}[-/ .,]*)?{_MONTH}[-/ .,]*\d{{1,4}}([-/ .,]+\d{{1,4}})?",  # mar1, Dec 5
            rf"\d{{1,4}}[-/ .,]*{_MONTH}([-/ .,]+\d{{1,4}})?",  # 1-mar
            r"\d{1,4}\s*[年月日时時點点].*",
            r"true|false",
        )
    ),
    re.ASCII | re.IGNORECASE,
)


class Plain(str):
    """A number or a time that a spreadsheet may read as what it is."""

    __slots__ = ()


def kept(text: str) -> str:
    """A text for a cell. An apostrophe comes before what would be run, a tab before what would become another text.

    Spreadsheets of East Asia read the wide forms of signs and digits as well.
    """
    if isinstance(text, Plain) or _WHOLE.fullmatch(text):
        return text
    folded = " ".join(unicodedata.normalize("NFKC", text).split())
    if text.startswith(_BREAKS) or folded.startswith(_LIVE):
        return f"'{text}"
    return f"\t{text}" if folded and _READ.fullmatch(folded) else text
