"""What all models of answers and bodies have in common."""

from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """A record that the server returns. Fields that a newer server adds are ignored. Types are strict."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Body(BaseModel):
    """A record that is sent. A field that the server does not know is refused here."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Words(StrEnum):
    """Words of the server. One that a newer server adds becomes a value of its own, and no error."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        word = str.__new__(cls, value)
        word._name_, word._value_ = value.upper(), value
        return word
