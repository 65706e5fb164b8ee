"""Tests that draw Chinese need a font that has it."""

from engine.analysis import pictures
from engine.analysis.finding import Language
from engine.errors import OperatorError
from tests.support.needs import skip_for_want_of


def needs_chinese_font() -> None:
    """Skip the test if there is none."""
    try:
        pictures.check(Language.ZH)
    except OperatorError:
        skip_for_want_of("a Chinese font", "apt-get install fonts-noto-cjk")
