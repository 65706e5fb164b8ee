"""What a question to the ledger has found: a table, and what it says in two languages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

Cell = str | int | float | None


class Language(StrEnum):
    """The language of titles, sentences and labels."""

    ZH = "zh"
    EN = "en"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a table says. ``title``: the finding. ``sentences``: the figures, and what they do not tell."""

    title: str
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One answer. ``name``: of its files. ``rows``: those of the CSV, from which the picture is drawn as well.

    ``units``: words for the picture that depend on the data, as the asset's name. It is empty if nothing happened:
    then there is nothing to draw.
    """

    name: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    said: Mapping[Language, Said]
    units: Mapping[str, Cell]

    @property
    def is_empty(self) -> bool:
        """Whether there was nothing to count."""
        return not self.rows

    @property
    def table(self) -> tuple[tuple[str, ...], list[tuple[Cell, ...]]]:
        """Columns and rows for a file. If there are amounts in it, the last column says what they are of."""
        if (asset := self.units.get("asset")) is None:
            return self.columns, list(self.rows)
        return (*self.columns, "asset"), [(*row, asset) for row in self.rows]

    def column(self, name: str) -> list[Cell]:
        """One column of the table."""
        place = self.columns.index(name)
        return [row[place] for row in self.rows]

    def numbers(self, name: str) -> list[float]:
        """One column of numbers. A missing one is NaN."""
        return [float("nan") if cell is None else float(cell) for cell in self.column(name)]


def nothing(name: str, columns: tuple[str, ...], *, zh: str, en: str) -> Finding:
    """The answer if there was nothing to count: ``zh`` and ``en`` say what there was none of."""
    said = {Language.ZH: Said(title=zh, sentences=()), Language.EN: Said(title=en, sentences=())}
    return Finding(name=name, columns=columns, rows=(), said=said, units={})


def found(
    name: str,
    columns: tuple[str, ...],
    rows: Sequence[tuple[Cell, ...]],
    *,
    zh: Said,
    en: Said,
    units: Mapping[str, Cell] | None = None,
) -> Finding:
    """An answer with something in it."""
    return Finding(name=name, columns=columns, rows=rows, said={Language.ZH: zh, Language.EN: en}, units=units or {})
