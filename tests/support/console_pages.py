"""Reading the console's pages in tests: rows, words, the forms and what they carry."""

import re
from html import unescape

import httpx

from tests.support.console import Person

_HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')


async def page_of(person: Person, path: str, status: int = 200) -> str:
    """The HTML of a page in English."""
    answer = await person.get(path)
    assert answer.status_code == status, (path, answer.status_code, words(answer.text)[:2_000])
    return answer.text


async def rows_of(person: Person, path: str) -> list[str]:
    """Each row of all tables of a page, as words. A table without rows has one that says so, which is left out."""
    return rows(await page_of(person, path))


async def send_form(
    person: Person, page: str, path: str, status: int = 303, /, **fields: str | list[str]
) -> httpx.Response:
    """Send a form of a page: its hidden fields, a reason, and these."""
    values = {**hidden(page, path), "reason": "seen", **fields}
    answer = await person.post(path, values)  # type: ignore[arg-type]  # httpx takes lists, too
    assert answer.status_code == status, (path, answer.status_code, words(answer.text)[:2_000])
    return answer


def words(page: str) -> str:
    """A page's text without tags, scripts and the frame's navigation."""
    body = re.sub(r"<(script|style|head|header|details)\b.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def rows(page: str) -> list[str]:
    """Each row of all tables' bodies, as words, without those that say that there is none."""
    bodies = re.findall(r"<tbody>(.*?)</tbody>", page, flags=re.DOTALL)
    found = [
        row for body in bodies for row in re.findall(r"<tr(?! class=\"empty\")[^>]*>(.*?)</tr>", body, flags=re.DOTALL)
    ]
    return [words(row) for row in found]


def hidden(page: str, path: str) -> dict[str, str | list[str]]:
    """The hidden fields of the form of a page that goes to a path."""
    for form in re.findall(r"<form[^>]*>.*?</form>", page, flags=re.DOTALL):
        if f'action="{path}"' in form and 'method="post"' in form:
            fields: dict[str, str | list[str]] = {}
            for name, value in _HIDDEN.findall(form):
                before = fields.get(name)
                if before is None:
                    fields[name] = unescape(value)
                else:
                    fields[name] = [*(before if isinstance(before, list) else [before]), unescape(value)]
            return fields
    raise AssertionError(f"no form goes to {path}")
