"""Bodies that are nearly proper: changed in their bytes, or in what they say, by a seed."""

import json
import random
from collections.abc import Callable
from typing import Any

_BITES = (
    *(
        bytes([value])
        for value in (0, 9, 10, 13, 32, 34, 39, 44, 47, 58, 91, 92, 93, 123, 125, 127, 128, 192, 237, 255)
    ),
    b"\\ud800",
    b"\\u0000",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\xf4\x90\x80\x80",
    b"\\",
    b"NaN",
    b"Infinity",
    b"1e999",
    b"-0",
    b"0x1",
    b"1" * 30,
    b"true",
    b"null",
    b"{}",
    b"[]",
    b"[[[[[[[[",
    b'"":',
    b"//",
    b"\xe6\x81\xad",
    b"' OR 1=1 --",
    b"$1",
    b"%s%n",
    b"\r\n\r\n",
)
_VALUES: tuple[object, ...] = (
    *(0, 1, -1, 2**31, 2**53, -(2**53), 2**63 - 1, -(2**63), 2**64 - 1, 0.0, -0.0, 0.1, 1.5, 1e300, -1e-300),
    *(
        None,
        True,
        False,
        "",
        " ",
        "\0",
        "a" * 65,
        "a" * 5_000,
        "恭喜",
        "\ud7ff\U0010ffff",
        "lucky",
        "equal",
        "1",
        "alice",
    ),
    *([], {}, [[]], [{}], {"": ""}, [None] * 1_200, ["a", "a"], {"claims": []}),
    f"10000{'0' * 14}",
    f"10{'9' * 17}",
    "10" + "٣" * 17,
    "..",
    "; DROP TABLE accounts",
    "<script>",
    "__proto__",
)
_NAMES = ("total_fen", "count", "split", "min_fen", "max_fen", "ttl_s", "greeting", "recipients", "claims", "packet_id")


class Mutator:
    """Gives one changed body after the other; the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._ways: tuple[Callable[[bytearray], object], ...] = (
            self._flip,
            self._overwrite,
            self._insert,
            self._remove,
            self._repeat,
            self._cut,
            self._swap,
        )

    def mutated(self, proper: dict[str, Any]) -> bytes:
        """``proper`` with one to five changes, of its fields, of its bytes, or of both."""
        kind = self._random.randrange(3)
        value: Any = json.loads(json.dumps(proper))
        if kind != 1:
            for _ in range(self._random.randint(1, 3)):
                value = self._changed(value)
        body = bytearray(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
        if kind != 0:
            for _ in range(self._random.randint(1, 4)):
                self._random.choice(self._ways)(body)
        return bytes(body)

    def pieces(self, body: bytes) -> tuple[bytes, ...]:
        """The body in one to four parts, as a network may bring it."""
        cuts = sorted(self._random.randint(0, len(body)) for _ in range(self._random.randrange(4)))
        return tuple(body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True))

    def choice(self, options: tuple[Any, ...]) -> Any:  # noqa: ANN401  # one of them
        """One of the options."""
        return self._random.choice(options)

    def _changed_fields(self, value: dict[str, Any]) -> dict[str, Any]:
        name, way = self._random.choice(list(value)), self._random.randrange(8)
        if way == 0:
            return {key: item for key, item in value.items() if key != name}
        if way == 1:
            return value | {self._random.choice(_NAMES): self._any()}
        if way == 2:
            return {("x" if key == name else key): item for key, item in value.items()}
        return value | {name: self._changed(value[name])}

    def _changed(self, value: Any) -> Any:  # noqa: ANN401  # JSON
        """The value with one change somewhere in it."""
        if isinstance(value, dict) and value and self._random.randrange(5):
            return self._changed_fields(value)
        if isinstance(value, list) and value and self._random.randrange(5):
            place = self._random.randrange(len(value))
            return [*value[:place], self._changed(value[place]), *value[place + self._random.randrange(2) :]]
        if isinstance(value, int) and self._random.randrange(2):
            return value + self._random.choice((-1, 1, -value, value, 2**32))
        return self._any()

    def _any(self) -> object:
        return self._random.choice(_VALUES)

    def _place(self, body: bytearray) -> int:
        return self._random.randrange(len(body) + 1)

    def _slice(self, body: bytearray) -> slice:
        start = self._place(body)
        return slice(start, start + self._random.randint(1, 12))

    def _flip(self, body: bytearray) -> None:
        if body:
            body[self._random.randrange(len(body))] ^= 1 << self._random.randrange(8)

    def _overwrite(self, body: bytearray) -> None:
        body[self._slice(body)] = self._random.choice(_BITES)

    def _insert(self, body: bytearray) -> None:
        place = self._place(body)
        body[place:place] = self._random.choice(_BITES)

    def _remove(self, body: bytearray) -> None:
        del body[self._slice(body)]

    def _repeat(self, body: bytearray) -> None:
        part = self._slice(body)
        body[part.start : part.start] = body[part] * self._random.randint(1, 20)

    def _cut(self, body: bytearray) -> None:
        if not self._random.randrange(3):
            del body[self._place(body) :]

    def _swap(self, body: bytearray) -> None:
        one, other = self._slice(body), self._slice(body)
        body[one], body[other] = body[other], body[one]
