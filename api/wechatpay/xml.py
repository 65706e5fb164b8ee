"""XML as WeChat Pay's clients write and read it: one <xml> with one element per field.

The parser is expat, told to take nothing else: no DTD (so no entities of anybody's), no attributes, no second level, no
field twice, only UTF-8, and no more than some fields of some length.
"""

from collections.abc import Mapping, Sequence
from typing import NoReturn
from xml.parsers import expat

from engine.wechatpay.refusals import Code, RefusalError

FIELDS_MAX = 64
NAME_MAX, VALUE_MAX = 64, 8_192
"""Characters."""
Value = str | int | Sequence[Mapping[str, str | int]]


def parsed(body: bytes) -> dict[str, str]:
    """The fields of a body. Raises RefusalError: XML_ERROR, with what is wrong."""
    reader = _Reader()
    try:
        reader.parser.Parse(body, True)
    except expat.ExpatError as error:
        raise RefusalError(Code.XML_ERROR, f"输入xml参数格式错误：第{error.lineno}行不是合法的UTF-8编码XML") from None
    return reader.fields


def rendered(fields: Mapping[str, Value]) -> bytes:
    """An answer. Numbers are plain, texts are in CDATA, a list is a list of elements (``hblist`` of ``hbinfo``)."""
    lines = "".join(f"<{name}>{_content(value)}</{name}>\n" for name, value in fields.items())
    return f"<xml>\n{lines}</xml>\n".encode()


def _content(value: Value) -> str:
    if isinstance(value, str):
        return f"<![CDATA[{value.replace(']]>', ']]]]><![CDATA[>')}]]>"
    if isinstance(value, int):
        return str(value)
    items = ("".join(f"<{name}>{_content(part)}</{name}>\n" for name, part in item.items()) for item in value)
    return "\n" + "".join(f"<hbinfo>\n{item}</hbinfo>\n" for item in items)


class _Reader:
    """Reads one body. ``fields`` is complete once it is parsed."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self._depth, self._name, self._parts, self._length = 0, "", list[str](), 0
        # The encoding is ours to say: a declaration of another one changes nothing.
        self.parser = expat.ParserCreate("utf-8")
        self.parser.buffer_text = True
        self.parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        self.parser.StartDoctypeDeclHandler = self._refuse_dtd
        self.parser.EntityDeclHandler = self._refuse_dtd
        self.parser.ExternalEntityRefHandler = self._refuse_dtd
        self.parser.SkippedEntityHandler = self._refuse_dtd
        self.parser.ProcessingInstructionHandler = self._refuse_instruction
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text

    def _refuse_dtd(self, *_: object) -> NoReturn:
        raise _wrong("不允许DOCTYPE和实体")

    def _refuse_instruction(self, *_: object) -> NoReturn:
        raise _wrong("不允许处理指令")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if attributes:
            raise _wrong("元素不能有属性")
        if self._depth == 0 and name != "xml":
            raise _wrong("根元素必须是<xml>")
        if self._depth > 1:
            raise _wrong("字段中不能再有元素")
        if self._depth == 1:
            if len(name) > NAME_MAX or len(self.fields) >= FIELDS_MAX:
                raise _wrong(f"最多{FIELDS_MAX}个字段，字段名最多{NAME_MAX}个字符")
            if name in self.fields:
                raise _wrong(f"字段{name}重复")
            self._name, self._parts, self._length = name, [], 0
        self._depth += 1

    def _end(self, _: str) -> None:
        self._depth -= 1
        if self._depth == 1:
            self.fields[self._name] = "".join(self._parts)

    def _text(self, text: str) -> None:
        if self._depth < 2:
            if not text.isspace():
                raise _wrong("字段之外不能有文字")
            return
        self._length += len(text)
        if self._length > VALUE_MAX:
            raise _wrong(f"字段{self._name}最多{VALUE_MAX}个字符")
        self._parts.append(text)


def _wrong(what: str) -> RefusalError:
    return RefusalError(Code.XML_ERROR, f"输入xml参数格式错误：{what}")
