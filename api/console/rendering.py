"""Renders templates: ours, with every value escaped. What is not there is an error, not a blank."""

from collections.abc import Callable, Mapping
from datetime import datetime
from gettext import NullTranslations
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from api.console.static_files import StaticFiles
from engine.calendar.china_time import CHINA
from engine.text import decimal, yuan

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3_600, 86_400


class Templates:
    """All templates. ``render`` gets the values that only one page has."""

    def __init__(self, static: StaticFiles) -> None:
        self._environment = Environment(
            loader=PackageLoader("api.console"),
            autoescape=True,
            undefined=StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.i18n"],
        )
        self._environment.install_gettext_callables(lambda text: text, _plural, newstyle=True)  # type: ignore[attr-defined]
        self._environment.globals["static"] = static.path
        self._environment.filters.update(
            time=time_of, amount=amount_of, number=number_of, moment=moment_of, duration=duration_of, yuan=yuan
        )

    def render(self, template: str, values: Mapping[str, Any]) -> str:
        """The page. ``values`` must hold what all pages have (``Visit.page``)."""
        return self._environment.get_template(template).render(**values)


def translating(texts: NullTranslations) -> dict[str, Callable[..., Markup]]:
    """What a template translates with. Values for a text's ``%(name)s`` are escaped; the text is ours."""

    def gettext(text: str, **values: object) -> Markup:
        return Markup(texts.gettext(text)) % values  # noqa: S704  # from our own catalogue

    def ngettext(one: str, many: str, num: int, **values: object) -> Markup:
        return Markup(texts.ngettext(one, many, num)) % {"num": num, **values}  # noqa: S704  # the same

    return {"_": gettext, "gettext": gettext, "ngettext": ngettext}


def _plural(one: str, many: str, count: int) -> str:
    return one if count == 1 else many


def moment_of(at_ms: int) -> str:
    """A time in China as text, to the second."""
    return f"{datetime.fromtimestamp(at_ms // 1000, CHINA):%Y-%m-%d %H:%M:%S}"


def time_of(at_ms: int | None) -> Markup:
    """A time in China, or a dash."""
    if at_ms is None:
        return Markup('<span class="none">–</span>')
    at = datetime.fromtimestamp(at_ms // 1000, CHINA)
    return Markup('<time datetime="{}">{}</time>').format(at.isoformat(), f"{at:%Y-%m-%d %H:%M:%S}")


def amount_of(amount: int | None, scale: int = 2, unit: str = "¥") -> Markup:
    """An amount of 10^-scale with its unit and thousands apart, or a dash."""
    if amount is None:
        return Markup('<span class="none">–</span>')
    whole, dot, rest = decimal(abs(amount), scale).partition(".")
    sign = "−" if amount < 0 else ""
    return Markup('<span class="amount">{}{}{}{}{}</span>').format(sign, escape(unit), f"{int(whole):,}", dot, rest)


def number_of(value: int | None) -> str:
    """A number with thousands apart, or a dash. Not for ids."""
    return "–" if value is None else f"{value:,}"


def duration_of(seconds: float | None) -> str:
    """A duration as its two largest units: 3 d 4 h."""
    if seconds is None:
        return "–"
    whole = int(seconds)
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S} s"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S} min"
    return f"{whole // _DAY_S} d {whole % _DAY_S // _HOUR_S} h"
