"""Draws a finding as a PNG. Only who draws imports this module, because matplotlib is not always installed."""

import io
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from engine.analysis.charts import CHARTS, GREY, Words, wrapped
from engine.analysis.finding import Finding, Language
from engine.analysis.scope import StudyError

CHINESE_FONTS = (
    *("Noto Sans CJK SC", "Source Han Sans SC", "Source Han Sans CN", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei"),
    *("PingFang SC", "Hiragino Sans GB", "Microsoft YaHei", "SimHei", "Noto Sans CJK JP"),
)
"""The first that is installed is used."""
_FILES = ("cjk", "sourcehan", "wqy", "pingfang", "hiragino", "msyh", "simhei")
_SIZE, _DPI = (8.0, 4.5), 120
_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "axes.edgecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.labelcolor": GREY,
    "legend.frameon": False,
    "axes.unicode_minus": False,
    "text.parse_math": False,  # a campaign's name may have dollars, and no text of ours is a formula
    "svg.hashsalt": "hongbao",
}


def check(language: Language) -> None:
    """Raise OperatorError, which says what to do, if text in this language cannot be drawn."""
    _families(language)


def draw(finding: Finding, language: Language) -> bytes:
    """A PNG of 960 by 540 pixels: the finding as its title, then the chart. Equal findings are drawn alike.

    The finding must not be empty. Raises OperatorError as ``check`` does.
    """
    with mpl.rc_context({**_STYLE, "font.family": _families(language)}), warnings.catch_warnings():
        # Of a campaign's name: a box is drawn, or (matplotlib before 3.11) letters that are not joined.
        warnings.filterwarnings(
            "ignore", "Glyph .* missing from font|Matplotlib currently does not support", UserWarning
        )
        figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        title = wrapped(finding.said[language].title, language)
        figure.suptitle(title, x=0.012, ha="left", fontsize=13, fontweight="bold", linespacing=1.25)
        CHARTS[finding.name](figure, finding, Words(language))
        out = io.BytesIO()
        figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


@cache
def _families(language: Language) -> list[str]:
    """Names of fonts, the first choice first."""
    if language is Language.EN:
        return ["DejaVu Sans", *_chinese()]  # the second for campaigns' names
    if not (found := _chinese()):
        raise StudyError(
            "No Chinese font is installed, so Chinese text cannot be drawn: install one (Debian: fonts-noto-cjk).",
            option="ask for --language en",
        )
    return [*found, "DejaVu Sans"]


def _chinese() -> list[str]:
    """The Chinese font that is installed. matplotlib remembers its list of fonts, so new ones are looked for here."""
    known = {entry.name for entry in font_manager.fontManager.ttflist}
    if not known.intersection(CHINESE_FONTS):
        for path in font_manager.findSystemFonts():
            if any(part in Path(path).name.lower().replace("-", "") for part in _FILES):
                font_manager.fontManager.addfont(path)
        known = {entry.name for entry in font_manager.fontManager.ttflist}
    return [name for name in CHINESE_FONTS if name in known][:1]
