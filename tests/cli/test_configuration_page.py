"""docs/configuration.md is what `engine.settings` says: every setting, its default, its values and what it does."""

from typing import Annotated

import pytest
from pydantic import Field
from pydantic_settings import BaseSettings

from engine.cli.configuration_page import page
from engine.settings import Settings
from tests.support.repository import ROOT

PAGE = ROOT / "docs" / "configuration.md"


class Undocumented(BaseSettings):
    # A topic.
    retries_max: int = 3


class Homeless(BaseSettings):
    retries_max: int = 3
    """How often it tries."""


class Bounded(BaseSettings):
    # A topic. More about it.
    retries_max: Annotated[int, Field(ge=1, le=9)] = 3
    """How often it tries."""
    wait_s: Annotated[float, Field(gt=0)] = 0.5
    """How long it waits."""


def test_the_page_is_what_the_settings_say() -> None:
    renew = "python -m engine.cli.configuration_page > docs/configuration.md"
    assert PAGE.read_text(encoding="utf-8") == page(), f"renew it: {renew}"


def test_every_setting_is_on_it_once() -> None:
    text = page()
    assert {name: text.count(f"| `HONGBAO_{name.upper()}` |") for name in Settings.model_fields} == dict.fromkeys(
        Settings.model_fields, 1
    )


@pytest.mark.parametrize("record", [Undocumented, Homeless])
def test_a_setting_without_a_topic_or_a_docstring_fails(record: type[BaseSettings]) -> None:
    with pytest.raises(ValueError, match=r"retries_max needs a comment above its group and a docstring below it"):
        page(record)


def test_a_topic_has_a_title_and_a_setting_its_bounds() -> None:
    assert page(Bounded).endswith("""\
## A topic

More about it.

| variable | default | values | what it does |
| --- | --- | --- | --- |
| `HONGBAO_RETRIES_MAX` | `3` | 1 to 9 | How often it tries. |
| `HONGBAO_WAIT_S` | `0.5` | above 0 | How long it waits. |
""")
