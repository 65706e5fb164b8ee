"""Numbers, days and lengths of time as people write them, in both languages."""

from engine.analysis.scope import Scope

_SECOND, _MINUTE, _HOUR, _DAY = 1_000, 60_000, 3_600_000, 86_400_000


def percent(part: float, whole: float) -> str:
    """A part in hundredths: 12%, 3.4%, and 0% or 100% only if it is none or all."""
    hundredths = 100 * part / whole
    if 0 < hundredths < 0.1:
        return "< 0.1%"
    if 99.9 < hundredths < 100:
        return "> 99.9%"
    return f"{hundredths:.1f}%" if hundredths < 10 and hundredths != int(hundredths) else f"{hundredths:.0f}%"


def days_en(scope: Scope) -> str:
    """On 1 day, or from one to another."""
    return f"on {scope.first}" if scope.days == 1 else f"from {scope.first} to {scope.last}"


def days_zh(scope: Scope) -> str:
    """The same in Chinese."""
    return f"{scope.first}" if scope.days == 1 else f"{scope.first} 至 {scope.last}"


def length_en(ms: float) -> str:
    """A length of time with one unit that fits."""
    number, unit = _length(ms)
    return f"{number} {('ms', 's', 'min', 'h', 'd')[unit]}"


def length_zh(ms: float) -> str:
    """The same in Chinese."""
    number, unit = _length(ms)
    return f"{number} {('毫秒', '秒', '分钟', '小时', '天')[unit]}"


def _length(ms: float) -> tuple[str, int]:
    for unit, (size, below) in enumerate(
        ((1, _SECOND), (_SECOND, 2 * _MINUTE), (_MINUTE, 2 * _HOUR), (_HOUR, 2 * _DAY))
    ):
        if ms < below:
            return _short(ms / size), unit
    return _short(ms / _DAY), 4


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0") if number < 10 else f"{number:,.0f}"
