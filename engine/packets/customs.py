"""What is customary in a packet: the numbers that bring luck, and how much and with which words on which festival.

All of it is this page: nothing is learned and nothing is by chance. docs/suggestions.md explains it for people.
"""

from collections.abc import Iterator
from typing import NamedTuple

from engine.calendar.occasions import Occasion
from engine.packets.split import TOTAL_FEN_MAX

MEANINGS = {
    6: "6 (六) sounds like flowing (流), and everything goes smoothly",
    8: "8 (八) sounds like prospering (发)",
    66: "66 (六六大顺) wishes that everything goes smoothly",
    88: "88 (发发) stands for prospering twice over",
    168: "168 (一路发) sounds like prospering all the way",
    188: "188 (要发发) sounds like going to prosper",
    666: "666 (六六六) stands for going as well as can be",
    888: "888 (发发发) stands for prospering three times over",
    99: "99 (久久) sounds like lasting for a long, long time",
    520: "520 (五二零) sounds like I love you (我爱你)",
    999: "999 (久久久) stands for lasting for ever",
}
"""Lucky numbers. An amount is one of them with zeros: 168 stands for 1.68, 16.80 and 168.00."""
LUCK = (6, 8, 66, 88, 168, 188, 666, 888)
LOVE = (99, 520, 999)
_DEATH = "4"
"""四 sounds like death (死). It is in no lucky number, but may be in the total of equal shares."""
_FOOL = "25"
"""250 (二百五) calls someone a fool."""


class Custom(NamedTuple):
    """What is given on an occasion. Amounts are wishes in fen: a suggestion is the nearest lucky one that is allowed.

    ``alone``: for one person. ``each``: per person, if there are several. ``numbers``: the lucky numbers that fit.
    ``to_many``: greetings for several people, where those for one would not do.
    """

    name: str
    greetings: tuple[str, ...]
    alone: tuple[int, ...]
    each: tuple[int, ...]
    numbers: tuple[int, ...] = LUCK
    to_many: tuple[str, ...] = ()

    def greetings_for(self, count: int) -> tuple[str, ...]:
        """The greetings for so many people."""
        return self.to_many if count > 1 and self.to_many else self.greetings


_FAMILY = Custom("a festival of families", (), alone=(8_800, 6_600, 16_800), each=(888, 666, 168))
_COUPLE = Custom("a day of couples", (), alone=(52_000, 5_200, 9_990), each=(520, 520, 99), numbers=LOVE)

ORDINARY = Custom(
    "an ordinary day",
    ("恭喜发财，大吉大利", "万事如意，心想事成", "平安喜乐", "大吉大利"),
    alone=(888, 1_680, 6_600, 666, 8_800),
    each=(168, 88, 66, 188, 880),
)
CUSTOMS: dict[Occasion, Custom] = {
    Occasion.SPRING_FESTIVAL_EVE: _FAMILY._replace(
        name="the eve of the Spring Festival (除夕)",
        greetings=("除夕快乐，阖家团圆", "辞旧迎新，恭喜发财", "岁岁平安，万事如意"),
    ),
    Occasion.SPRING_FESTIVAL: _FAMILY._replace(
        name="the Spring Festival (春节)", greetings=("恭喜发财，大吉大利", "新春快乐，万事如意", "岁岁平安，年年有余")
    ),
    Occasion.LANTERN_FESTIVAL: Custom(
        "the Lantern Festival (元宵节)",
        ("元宵节快乐，团团圆圆", "花好月圆，阖家幸福", "元宵喜乐"),
        alone=(6_600, 8_800, 1_880),
        each=(666, 888, 168),
    ),
    Occasion.DRAGON_BOAT_FESTIVAL: Custom(
        "the Dragon Boat Festival (端午节), on which people wish health rather than joy",
        ("端午安康", "端午安康，平安顺遂", "粽叶飘香，安康吉祥"),
        alone=(6_600, 1_680, 8_800),
        each=(666, 168, 888),
    ),
    Occasion.QIXI: _COUPLE._replace(
        name="Qixi (七夕)",
        greetings=("七夕快乐，两情长久", "愿得一心人，白首不相离", "七夕快乐"),
        to_many=("七夕快乐", "七夕快乐，有情人终成眷属"),
    ),
    Occasion.MID_AUTUMN_FESTIVAL: Custom(
        "the Mid-Autumn Festival (中秋节)",
        ("中秋快乐，阖家团圆", "花好月圆，幸福安康", "但愿人长久，千里共婵娟"),
        alone=(6_600, 8_800, 1_880),
        each=(666, 888, 168),
    ),
    Occasion.NEW_YEAR: Custom(
        "New Year's Day (元旦)",
        ("元旦快乐，万象更新", "新年快乐，心想事成", "新的一年，平安喜乐"),
        alone=(6_600, 1_880, 8_800),
        each=(666, 188, 888),
    ),
    Occasion.VALENTINES_DAY: _COUPLE._replace(
        name="Valentine's Day (情人节)",
        greetings=("情人节快乐，爱你久久", "爱你每一天", "情人节快乐"),
        to_many=("情人节快乐", "情人节快乐，有情人终成眷属"),
    ),
    Occasion.MAY_20: _COUPLE._replace(
        name="20 May (五二零), whose digits sound like I love you",
        greetings=("我爱你", "五二零快乐，爱你久久", "有你真好"),
        to_many=("五二零快乐", "有你们真好"),
    ),
    Occasion.NATIONAL_DAY: Custom(
        "National Day (国庆节)",
        ("国庆快乐", "国泰民安，阖家欢乐", "国庆快乐，假期愉快"),
        alone=(6_600, 1_880, 8_800),
        each=(666, 188, 888),
    ),
}


def lucky_amounts(numbers: tuple[int, ...], least_fen: int, most_fen: int) -> Iterator[tuple[int, int]]:
    """Amounts from ``least_fen`` to ``most_fen``, each with its lucky number: at most sixteen per number."""
    for number in numbers:
        amount_fen = number
        while amount_fen <= min(most_fen, TOTAL_FEN_MAX):
            if amount_fen >= least_fen:
                yield amount_fen, number
            amount_fen *= 10


def is_unlucky(amount_fen: int) -> bool:
    """Whether an amount has the digit 4 in it, or is 250 with or without zeros."""
    digits = str(amount_fen)
    return _DEATH in digits or digits.rstrip("0") == _FOOL
